//! The data directory of a back end: one tenant's identity, store and control socket.

use std::{
    env,
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::failure::Failure;

/// `--data`, the same for every subcommand.
#[derive(clap::Args, Clone)]
pub struct DataArgs {
    /// The back end's data directory [default: $HAILPOST_DATA, else ~/.local/state/hailpost]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl DataArgs {
    /// Which directory it is.
    pub fn dir(&self) -> Result<DataDir, Failure> {
        let named = self.data.clone().or_else(|| env::var_os("HAILPOST_DATA").map(PathBuf::from));
        let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".local/state/hailpost"));
        let path = named.or_else(home).filter(|path| !path.as_os_str().is_empty());
        path.map(DataDir)
            .ok_or_else(|| Failure::usage("there is no HOME: name the directory with --data DIR"))
    }
}

/// A data directory, which need not be there yet.
#[derive(Clone, Debug)]
pub struct DataDir(PathBuf);

/// Held by the one process that may open the store.
pub struct Lock {
    _file: File,
}

impl DataDir {
    /// That one.
    pub fn at(path: PathBuf) -> DataDir {
        DataDir(path)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The back end's key and certificate.
    pub fn identity(&self) -> PathBuf {
        self.0.join("identity.pem")
    }

    /// What the back end keeps.
    pub fn store(&self) -> PathBuf {
        self.0.join("backend.db")
    }

    /// What the post office keeps.
    pub fn office_store(&self) -> PathBuf {
        self.0.join("office.db")
    }

    /// Where a running back end takes requests.
    pub fn socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    /// Makes the directory, for its owner alone. What is made in it later is its owner's alone too.
    pub fn make(&self) -> Result<(), Failure> {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let shown = self.0.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(|error| Failure::new(format!("cannot make {shown}: {error}")))?;
        let meta = self.0.metadata().map_err(|error| Failure::new(format!("{shown}: {error}")))?;
        match meta.mode() & 0o077 {
            0 => Ok(()),
            _ => Err(Failure::usage(format!("{shown} is open to others: chmod 700 {shown}"))),
        }
    }

    /// Takes the lock; `None` when another process has it.
    pub fn lock(&self) -> Result<Option<Lock>, Failure> {
        let path = self.0.join("lock");
        let about = |error: std::io::Error| Failure::new(format!("cannot lock {}: {error}", path.display()));
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(about)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(about(error)),
        }
    }
}
