//! A key, or all keys under a prefix.

use std::fmt;

use etcd_client::GetOptions;

/// Some of etcd's keys: one, or all under a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyRange {
    /// This one.
    Key(String),
    /// All that start so. It ends in `/`, so that what is of `user` is not taken for `user-admin`'s.
    Under(String),
}

impl KeyRange {
    /// Returns the first key that may be in it.
    pub(crate) fn start(&self) -> &str {
        match self {
            Self::Key(key) => key,
            Self::Under(prefix) => prefix,
        }
    }

    /// Returns the first key behind it.
    pub(super) fn end(&self) -> Vec<u8> {
        match self {
            Self::Key(key) => [key.as_bytes(), &[0]].concat(),
            Self::Under(prefix) => {
                let mut end = prefix.as_bytes().to_vec();
                if let Some(last) = end.last_mut() {
                    *last += 1;
                }
                end
            }
        }
    }

    pub(super) fn ask(&self, options: GetOptions) -> GetOptions {
        match self {
            Self::Key(_) => options,
            Self::Under(_) => options.with_prefix(),
        }
    }
}

impl fmt::Display for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.start())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        let range = KeyRange::Under("/microservices/user/".to_owned());
        assert_eq!(range.end(), b"/microservices/user0");
    }
}
