//! The access log's file: whether lines could be written to it, before the first request finds out.

use std::io;

use super::Check;
use crate::{
    diagnostic::{Code, Finding},
    document::Path,
};

impl Check<'_> {
    pub(super) fn access_log_file(&mut self) {
        let Some(file) = self.model.access_log.as_ref().and_then(|log| log.file.as_ref()) else { return };
        let path = Path::root().key("access_log").key("file");
        let written = self.main().is_some_and(|source| {
            source
                .written
                .access_log
                .as_ref()
                .is_some_and(|log| log.0.file.as_ref().is_some_and(|file| file.as_os_str().is_empty()))
        });
        if written {
            let finding = Finding::error(Code::BadValue, "the access log's file has no name");
            let help =
                "write a path such as /var/log/portcullis/access.log, or leave it away for standard output";
            self.in_main(&path, finding.help(help));
            return;
        }
        let Err(error) = self.files.append(file) else { return };
        let shown = file.display();
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.map_or_else(|| ".".to_owned(), |folder| folder.display().to_string());
        let (message, help) = match error.kind() {
            io::ErrorKind::NotFound => {
                (format!("the folder of `{shown}` does not exist"), format!("make it: mkdir -p {folder}"))
            }
            io::ErrorKind::NotADirectory => {
                (format!("`{folder}` is no folder"), "name a file in a folder".to_owned())
            }
            io::ErrorKind::IsADirectory => {
                (format!("`{shown}` is a folder"), format!("name a file in it: {shown}/access.log"))
            }
            io::ErrorKind::PermissionDenied => (
                format!("`{shown}` may not be written by this user"),
                format!("let the gateway's user write it and {folder}, or name another file"),
            ),
            _ => (format!("cannot write to `{shown}`: {error}"), "name another file".to_owned()),
        };
        self.in_main(&path, Finding::error(Code::MissingFile, message).help(help));
    }
}
