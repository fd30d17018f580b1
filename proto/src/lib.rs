//! The greeter service of switchboard's examples and tests, generated from `greeter.proto`.

tonic::include_proto!("greeter.v1");
