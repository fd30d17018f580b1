//! What protoc is asked to do, parsed from its command line.

use std::{error, ffi::OsString, fmt, path::PathBuf};

/// What the command line asks for.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    /// Say who this is.
    Version,
    /// Write a descriptor set.
    Compile(Compilation),
}

/// Which files to compile, and what to write where.
#[derive(Debug, PartialEq)]
pub(crate) struct Compilation {
    /// The folders that imports are looked up in, in order; never empty.
    pub(crate) includes: Vec<PathBuf>,
    /// The files to compile; never empty.
    pub(crate) files: Vec<PathBuf>,
    /// Where the descriptor set goes.
    pub(crate) output: PathBuf,
    /// Whether it holds the imported files too.
    pub(crate) include_imports: bool,
    /// Whether it holds comments and positions.
    pub(crate) include_source_info: bool,
}

/// Parses a command line, without the program's name.
///
/// # Errors
///
/// Names the argument that is unknown, or the one that is missing.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Misuse> {
    let mut arguments = arguments.into_iter();
    let (mut includes, mut files, mut output) = (Vec::new(), Vec::new(), None);
    let (mut include_imports, mut include_source_info) = (false, false);

    while let Some(argument) = arguments.next() {
        // A file may have any name; a flag is always text.
        let Some(flag) = argument.to_str().filter(|text| text.starts_with('-')) else {
            files.push(PathBuf::from(argument));
            continue;
        };
        let mut value = |given: &str| match given {
            "" => arguments
                .next()
                .ok_or(Misuse(format!("{flag}: a value is missing"))),
            given => Ok(given.into()),
        };
        match flag {
            "--version" => return Ok(Command::Version),
            "--include_imports" => include_imports = true,
            "--include_source_info" => include_source_info = true,
            // protox, like every protoc since 3.15, needs no leave for optional fields.
            "--experimental_allow_proto3_optional" => {}
            _ => {
                if let Some(folder) = strip(flag, "-I", "--proto_path") {
                    includes.push(PathBuf::from(value(folder)?));
                } else if let Some(file) = strip(flag, "-o", "--descriptor_set_out") {
                    output = Some(PathBuf::from(value(file)?));
                } else {
                    return Err(Misuse(format!(
                        "{flag}: unknown flag (expected: what build scripts pass to make a descriptor set)"
                    )));
                }
            }
        }
    }

    if files.is_empty() {
        return Err(Misuse("no .proto file given".to_owned()));
    }
    if includes.is_empty() {
        includes.push(PathBuf::from("."));
    }
    Ok(Command::Compile(Compilation {
        includes,
        files,
        output: output.ok_or(Misuse("no output given (expected: -o FILE)".to_owned()))?,
        include_imports,
        include_source_info,
    }))
}

/// Returns what follows the flag's name in `-oVALUE` and `--long=VALUE`; nothing follows it in `-o`
/// and `--long`, whose value is the next argument.
fn strip<'a>(flag: &'a str, short: &str, long: &str) -> Option<&'a str> {
    match flag.strip_prefix(long) {
        Some("") => Some(""),
        Some(rest) => rest.strip_prefix('='),
        None => flag.strip_prefix(short),
    }
}

/// A command line that cannot be followed.
#[derive(PartialEq)]
pub(crate) struct Misuse(String);

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl error::Error for Misuse {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, Misuse> {
        super::parse(line.split_whitespace().map(OsString::from))
    }

    fn compilation(line: &str) -> Compilation {
        match parse(line) {
            Ok(Command::Compile(compilation)) => compilation,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn what_a_build_script_passes_is_understood() {
        let line = "--include_imports --include_source_info -o out/set -I proto -I more proto/a.proto proto/b.proto";
        let expected = Compilation {
            includes: vec!["proto".into(), "more".into()],
            files: vec!["proto/a.proto".into(), "proto/b.proto".into()],
            output: "out/set".into(),
            include_imports: true,
            include_source_info: true,
        };
        assert_eq!(compilation(line), expected);
    }

    #[test]
    fn every_spelling_of_a_flag_means_the_same() {
        let expected = compilation("-o set -I proto a.proto");
        for line in [
            "-oset -Iproto a.proto",
            "--descriptor_set_out=set --proto_path=proto a.proto",
            "--descriptor_set_out set --proto_path proto a.proto",
            "a.proto --experimental_allow_proto3_optional -I proto -o set",
        ] {
            assert_eq!(compilation(line), expected, "{line}");
        }
    }

    #[test]
    fn imports_and_source_info_are_left_out_unless_asked_for() {
        let compilation = compilation("-o set a.proto");
        assert!(!compilation.include_imports && !compilation.include_source_info);
    }

    #[test]
    fn without_an_include_the_current_folder_is_searched() {
        assert_eq!(compilation("-o set a.proto").includes, [PathBuf::from(".")]);
    }

    #[test]
    fn the_version_is_told_whatever_else_is_asked() {
        assert_eq!(parse("--version"), Ok(Command::Version));
    }

    #[test]
    fn what_cannot_be_followed_is_refused_by_name() {
        for (line, named) in [
            ("--rust_out=. -o set a.proto", "--rust_out=."),
            ("--include_importss -o set a.proto", "--include_importss"),
            ("--proto_pathology=x -o set a.proto", "--proto_pathology=x"),
            ("-x -o set a.proto", "-x"),
            ("a.proto -o", "-o: a value is missing"),
            ("-o set -I proto", "no .proto file"),
            ("-I proto a.proto", "-o FILE"),
            ("", "no .proto file"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(named), "{line:?}: {error}");
        }
    }
}
