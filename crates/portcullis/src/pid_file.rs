//! A file that holds the id of the process that serves, for scripts that send signals.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
};

/// The file. It goes when this is dropped, unless another process has written its own id by then.
#[derive(Debug)]
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes it, whole or not at all. That it cannot be written is logged: it is no reason not to serve.
    pub fn keep(path: PathBuf) -> Option<PidFile> {
        let mut beside = path.clone().into_os_string();
        beside.push(format!(".{}", process::id()));
        let beside = PathBuf::from(beside);
        let written =
            fs::write(&beside, format!("{}\n", process::id())).and_then(|()| fs::rename(&beside, &path));
        match written {
            Ok(()) => Some(PidFile(path)),
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "cannot write the pid file");
                // It may not be there at all.
                let _ = fs::remove_file(&beside);
                None
            }
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if read(&self.0) == Some(process::id()) {
            // Whoever removed it before us did the same.
            let _ = fs::remove_file(&self.0);
        }
    }
}

fn read(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_with_the_process_unless_it_is_another_ones_by_then() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let file = PidFile::keep(path.clone()).unwrap();
        assert_eq!(read(&path), Some(process::id()));
        drop(file);
        assert!(!path.exists());
        let file = PidFile::keep(path.clone()).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert_eq!(read(&path), Some(1));
        assert!(PidFile::keep(folder.path().join("no/where")).is_none());
    }
}
