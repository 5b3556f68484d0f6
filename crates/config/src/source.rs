//! The files that a configuration names, read when asked: the only door to the disk in this crate.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Mutex,
};

/// Files by path.
pub trait Files {
    /// The whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Whether lines could be appended to a file that may not be there yet. Nothing is made or written.
    fn append(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Whether files could be made, read and removed in a folder. Nothing is made or written.
    fn folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// Longest file read: certificates, error pages, the configuration itself.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        use io::Read as _;
        let file = std::fs::File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a directory"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "is larger than 64 MiB"));
        }
        Ok(bytes)
    }

    fn append(&self, path: &Path) -> io::Result<()> {
        use rustix::fs::{Access, access};
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => Err(io::Error::new(io::ErrorKind::IsADirectory, "is a directory")),
            Ok(_) => Ok(access(path, Access::WRITE_OK)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                let folder = folder.unwrap_or(Path::new("."));
                if !std::fs::metadata(folder)?.is_dir() {
                    return Err(io::Error::new(io::ErrorKind::NotADirectory, "its folder is no directory"));
                }
                Ok(access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
            }
            Err(error) => Err(error),
        }
    }

    fn folder(&self, path: &Path) -> io::Result<()> {
        use rustix::fs::{Access, access};
        if !std::fs::metadata(path)?.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "is no directory"));
        }
        Ok(access(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)?)
    }
}

/// Remembers what was read, so that somebody can watch those files.
pub(crate) struct Remembered<'a> {
    files: &'a dyn Files,
    paths: Mutex<Vec<PathBuf>>,
}

impl<'a> Remembered<'a> {
    pub(crate) fn new(files: &'a dyn Files) -> Self {
        Self { files, paths: Mutex::new(Vec::new()) }
    }

    /// Every path asked for, sorted.
    pub(crate) fn paths(self) -> Vec<PathBuf> {
        let mut paths = self.paths.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        paths.sort();
        paths.dedup();
        paths
    }
}

impl Files for Remembered<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.paths.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(path.to_owned());
        self.files.read(path)
    }

    fn append(&self, path: &Path) -> io::Result<()> {
        self.files.append(path)
    }

    fn folder(&self, path: &Path) -> io::Result<()> {
        self.files.folder(path)
    }
}
