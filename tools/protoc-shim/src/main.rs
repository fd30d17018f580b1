//! The part of protoc's command line that build scripts use, on protox: it reads `.proto` files and
//! writes a `FileDescriptorSet`. What it does not know it refuses, so that no output is ever other
//! than what was asked for.

mod arguments;

use std::{env, error::Error, fs, process::ExitCode};

use arguments::{Command, Compilation};

fn main() -> ExitCode {
    let done = match arguments::parse(env::args_os().skip(1)) {
        Ok(Command::Version) => {
            println!("protoc-shim {} (protox)", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Ok(Command::Compile(compilation)) => compile(&compilation),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Debug is how protox shows where in which file it stumbled.
            eprintln!("protoc-shim: {error:?}");
            ExitCode::FAILURE
        }
    }
}

fn compile(compilation: &Compilation) -> Result<(), Box<dyn Error>> {
    let mut compiler = protox::Compiler::new(&compilation.includes)?;
    let descriptors = compiler
        .include_imports(compilation.include_imports)
        .include_source_info(compilation.include_source_info)
        .open_files(&compilation.files)?
        .encode_file_descriptor_set();
    fs::write(&compilation.output, descriptors)
        .map_err(|error| format!("{}: {error}", compilation.output.display()).into())
}
