//! Who a registry is to etcd.

use std::{fmt, io, path::PathBuf};

/// A user of etcd and its password, for an etcd that has
/// [users](https://etcd.io/docs/v3.4/op-guide/authentication/).
///
/// An etcd without users takes them as well: they are not asked for, until it has.
///
/// ```
/// use switchboard_registry::{Credentials, Registry};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let credentials = Credentials::with_password_file("shop", "/run/secrets/etcd")?;
/// let registry = Registry::builder("10.0.0.1:2379")?
///     .credentials(credentials)
///     .connect_lazy()?;
/// # registry.close().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Credentials {
    user: String,
    password: Password,
}

#[derive(Clone)]
enum Password {
    Text(String),
    File(PathBuf),
}

/// Why credentials cannot be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// There is no user without a name.
    #[error("user name: empty (expected: the name of a user of etcd)")]
    EmptyUser,
    /// etcd has users without a password, but nobody can log in as one.
    #[error("password of user {user}: empty (expected: the password that etcd has for that user)")]
    EmptyPassword {
        /// The user.
        user: String,
    },
}

impl Credentials {
    /// Logs in as `user` with `password`.
    ///
    /// # Errors
    ///
    /// Either is empty.
    pub fn new(
        user: impl Into<String>,
        password: impl Into<String>,
    ) -> Result<Self, CredentialsError> {
        let (user, password) = (user.into(), password.into());
        if password.is_empty() && !user.is_empty() {
            return Err(CredentialsError::EmptyPassword { user });
        }
        Self::of(user, Password::Text(password))
    }

    /// Logs in as `user` with the password that the file at `path` holds; a line break at its end
    /// does not count.
    ///
    /// It is a regular file, or a link to one: a FIFO or a device is never opened. It is read at
    /// each login, so a password that is changed, in etcd and in the file, is
    /// the one to use from the next login on. A file that cannot be used then is a refusal, which
    /// publications and discoveries report with its path.
    ///
    /// # Errors
    ///
    /// The user's name is empty.
    pub fn with_password_file(
        user: impl Into<String>,
        path: impl Into<PathBuf>,
    ) -> Result<Self, CredentialsError> {
        Self::of(user.into(), Password::File(path.into()))
    }

    fn of(user: String, password: Password) -> Result<Self, CredentialsError> {
        if user.is_empty() {
            return Err(CredentialsError::EmptyUser);
        }
        Ok(Self { user, password })
    }

    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// Returns the password as it is now.
    pub(crate) async fn password(&self) -> Result<String, PasswordError> {
        let path = match &self.password {
            Password::Text(password) => return Ok(password.clone()),
            Password::File(path) => path,
        };
        let unusable = |why| PasswordError {
            path: path.clone(),
            why,
        };
        let found = tokio::fs::metadata(path).await;
        let found = found.map_err(|error| unusable(Unusable::Unreadable(error)))?;
        // Opening a FIFO that nobody writes blocks a thread for ever, and a device may never end.
        if !found.is_file() {
            return Err(unusable(Unusable::NotRegular));
        }
        let bytes = tokio::fs::read(path).await;
        let bytes = bytes.map_err(|error| unusable(Unusable::Unreadable(error)))?;
        let text = String::from_utf8(bytes).map_err(|_| unusable(Unusable::NotUtf8))?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        match text.strip_suffix('\r').unwrap_or(text) {
            "" => Err(unusable(Unusable::Empty)),
            password => Ok(password.to_owned()),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Why there is no password in a file. What the file holds is never told.
#[derive(Debug, thiserror::Error)]
#[error("password file {}: {why} (expected: a password in UTF-8)", path.display())]
pub(crate) struct PasswordError {
    path: PathBuf,
    why: Unusable,
}

#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("{0}")]
    Unreadable(io::Error),
    #[error("not a regular file")]
    NotRegular,
    #[error("not UTF-8")]
    NotUtf8,
    #[error("empty")]
    Empty,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that goes with the test.
    fn file(name: &str, content: &[u8]) -> PathBuf {
        let name = format!("switchboard-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    async fn password_in(name: &str, content: &[u8]) -> Result<String, String> {
        let path = file(name, content);
        let credentials = Credentials::with_password_file("shop", &path).unwrap();
        let password = credentials.password().await;
        std::fs::remove_file(path).unwrap();
        password.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_file_holds_a_password_and_at_most_one_line_break_after_it() {
        for (content, password) in [
            ("s3cret", "s3cret"),
            ("s3cret\n", "s3cret"),
            ("s3cret\r\n", "s3cret"),
            (" s3 cret \n\n", " s3 cret \n"),
        ] {
            let read = password_in("good", content.as_bytes()).await;
            assert_eq!(read.as_deref(), Ok(password), "{content:?}");
        }
    }

    #[tokio::test]
    async fn a_file_without_a_password_is_told_by_its_name_and_not_by_its_content() {
        let error = password_in("latin", b"s3cret\xff").await.unwrap_err();
        assert!(
            error.contains("-latin: not UTF-8 (expected: ") && !error.contains("s3cret"),
            "{error}"
        );
        for content in ["", "\n", "\r\n"] {
            let error = password_in("none", content.as_bytes()).await.unwrap_err();
            assert!(error.contains("-none: empty (expected: "), "{error}");
        }
        let missing = Credentials::with_password_file("shop", "/no/such/file").unwrap();
        let error = missing.password().await.unwrap_err().to_string();
        assert!(
            error.starts_with("password file /no/such/file: No such file"),
            "{error}"
        );
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn what_is_not_a_regular_file_is_told_and_not_opened_and_a_link_counts_as_what_it_leads_to()
     {
        use std::{os::unix::fs::symlink, process::Command, time::Duration};
        let folder = file("folder", b"");
        std::fs::remove_file(&folder).unwrap();
        std::fs::create_dir(&folder).unwrap();
        let at = |name| folder.join(name);
        assert!(
            Command::new("mkfifo")
                .arg(at("fifo"))
                .status()
                .unwrap()
                .success()
        );
        // Should it be opened all the same, this ends what reads it when the test has failed.
        let both = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(at("fifo"));
        let _writer = both.unwrap();
        std::fs::write(at("password"), "s3cret").unwrap();
        symlink(at("fifo"), at("to a fifo")).unwrap();
        symlink(at("password"), at("to a password")).unwrap();
        let read = async |path: PathBuf| {
            let credentials = Credentials::with_password_file("shop", path).unwrap();
            let password = tokio::time::timeout(Duration::from_secs(5), credentials.password());
            password.await.map_err(|_| "it was opened").unwrap()
        };
        for path in [
            at("fifo"),
            at("to a fifo"),
            folder.clone(),
            "/dev/null".into(),
        ] {
            let error = read(path.clone()).await.unwrap_err().to_string();
            let path = path.display();
            let told = format!("password file {path}: not a regular file (expected: a password");
            assert!(error.starts_with(&told), "{error}");
        }
        assert_eq!(read(at("to a password")).await.unwrap(), "s3cret");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn nobody_and_nothing_are_refused() {
        let none = Credentials::new("shop", "").unwrap_err().to_string();
        assert!(
            none.starts_with("password of user shop: empty (expected: "),
            "{none}"
        );
        for nobody in [
            Credentials::new("", "s3cret"),
            Credentials::with_password_file("", "/run/secrets/etcd"),
        ] {
            assert_eq!(nobody.unwrap_err(), CredentialsError::EmptyUser);
        }
    }

    #[test]
    fn only_the_user_is_shown() {
        let credentials = Credentials::new("shop", "s3cret").unwrap();
        assert_eq!(
            format!("{credentials:?}"),
            r#"Credentials { user: "shop", .. }"#
        );
    }
}
