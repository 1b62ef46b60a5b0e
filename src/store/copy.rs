//! A new file that has its name only when it is whole.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::status::{Fault, Status};

/// Octets copied in one step.
pub(super) const PIECE: usize = 1 << 20;

/// A file that is being written as `NAME.part`; gone when it is dropped before it was finished.
pub(super) struct NewFile {
    name: PathBuf,
    part: PathBuf,
    /// Locked, so that no other process takes the part for one that was left over.
    file: File,
}

impl NewFile {
    /// Makes the part, mode 0600. What a process that was killed has left of one is replaced.
    pub fn create(name: &Path) -> Result<NewFile, Fault> {
        let mut part = OsString::from(name);
        part.push(".part");
        let part = PathBuf::from(part);
        if fs::symlink_metadata(name).is_ok() {
            let detail = format!("{} is there already: name a file that is not", name.display());
            return Err(Fault::new(Status::State, detail));
        }
        let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Unlinked rather than written over: it may be the last name but one of a copy that is whole.
                drop(lock(&part, File::open(&part).map_err(|error| fault(&part, &error))?)?);
                fs::remove_file(&part).map_err(|error| fault(&part, &error))?;
                open()
            }
            other => other,
        };
        let file = lock(&part, file.map_err(|error| fault(&part, &error))?)?;
        Ok(NewFile { name: name.to_owned(), part, file })
    }

    /// Where it is written.
    pub fn part(&self) -> &Path {
        &self.part
    }

    /// To write into.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// What went wrong with it.
    pub fn fault(&self, error: &io::Error) -> Fault {
        fault(&self.part, error)
    }

    /// It is whole: once this returns it is on the disk under its name.
    pub fn finish(self) -> Result<(), Fault> {
        self.file.sync_all().map_err(|error| self.fault(&error))?;
        // A rename would take the place of a file that came there meanwhile; a link does not.
        match fs::hard_link(&self.part, &self.name) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(fault(&self.name, &error));
            }
            // Not every file system has links.
            Err(_) => fs::rename(&self.part, &self.name).map_err(|error| self.fault(&error))?,
        }
        let _ = fs::remove_file(&self.part);
        let dir = self.name.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| fault(dir, &error))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.part);
    }
}

fn lock(part: &Path, file: File) -> Result<File, Fault> {
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let detail = format!("{}: another process writes it", part.display());
            Err(Fault::new(Status::State, detail))
        }
        Err(TryLockError::Error(error)) => Err(fault(part, &error)),
    }
}

fn fault(path: &Path, error: &io::Error) -> Fault {
    Fault::new(Status::Io, format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_name_when_it_is_whole_and_nothing_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let (name, part) = (dir.path().join("copy"), dir.path().join("copy.part"));
        drop(NewFile::create(&name).unwrap());
        assert!(!part.exists() && !name.exists(), "given up");

        // A part that was left over may be a copy that is whole, under its name since.
        let other = dir.path().join("other");
        fs::write(&other, "whole").unwrap();
        fs::hard_link(&other, &part).unwrap();
        let file = NewFile::create(&name).unwrap();
        assert_eq!(NewFile::create(&name).err().unwrap().status, Status::State, "one at a time");
        file.finish().unwrap();
        assert!(name.exists() && !part.exists());
        assert_eq!(fs::read(&other).unwrap(), b"whole");
        assert_eq!(NewFile::create(&name).err().unwrap().status, Status::State, "it is there");

        let late = dir.path().join("late");
        let file = NewFile::create(&late).unwrap();
        fs::write(&late, "came meanwhile").unwrap();
        assert!(file.finish().is_err());
        assert_eq!(fs::read(&late).unwrap(), b"came meanwhile");
        let nowhere = NewFile::create(&dir.path().join("none/copy")).err().unwrap();
        assert!(nowhere.status == Status::Io && nowhere.detail.contains("none/copy.part"), "{nowhere}");
    }
}
