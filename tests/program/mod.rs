//! The program as its users run it.
#![allow(dead_code, reason = "every test binary uses its part")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// What a run left behind.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Ran {
    /// What it said, all having gone well and without a word on standard error.
    #[track_caller]
    pub fn well(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        self.stdout
    }
}

/// The program with nobody at its standard input, whatever the environment says.
pub fn dfcnn() -> Command {
    command(env!("CARGO_BIN_EXE_dfcnn"))
}

/// Another one that may run it, with none of the settings that the user of the tests may have in the environment.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for name in ["DFCNN_MODEL", "DFCNN_ENGINE", "DFCNN_COMPUTE", "DFCNN_ORT_LIB", "DFCNN_DEVICE"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end.
pub fn run(arguments: &[&str]) -> Ran {
    dfcnn().args(arguments).output().unwrap().into()
}

/// A file or folder of the project, for the command line.
pub fn package(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).display().to_string()
}
