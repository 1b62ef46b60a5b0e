//! Rows in one SQLite file: write-ahead log, `synchronous=FULL`, one transaction for all that waits.

use std::{collections::VecDeque, path::Path};

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior};

use super::{Batch, Op, Store, Table};
use crate::status::{Fault, Status};

/// The schema that this version writes; kept in `PRAGMA user_version`.
const SCHEMA: i32 = 1;

/// The engine on SQLite.
pub struct Sqlite {
    connection: Connection,
    queued: VecDeque<Batch>,
    committed: u64,
}

impl Sqlite {
    /// Opens the file, or makes it (mode 0600), and holds it alone until dropped.
    ///
    /// Fails with [`Status::StoreLocked`] while another process has it, [`Status::StoreVersion`] when a newer
    /// version wrote it, [`Status::StoreCorrupt`] when it is damaged.
    pub fn open(path: &Path) -> Result<Sqlite, Fault> {
        let name = path.display().to_string();
        create_private(path)?;
        let connection = Connection::open(path).map_err(|error| fault(&name, &error))?;
        let opened = Sqlite { connection, queued: VecDeque::new(), committed: 0 };
        opened.prepare(&name).map_err(|error| fault(&name, &error))??;
        Ok(opened)
    }

    fn prepare(&self, name: &str) -> rusqlite::Result<Result<(), Fault>> {
        let connection = &self.connection;
        connection.busy_timeout(std::time::Duration::ZERO)?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // An exclusive lock is taken by the first write: take it now, so that a second process learns it here.
        connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;
        let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version > SCHEMA {
            let detail =
                format!("{name} has schema {version}, this version knows {SCHEMA}: upgrade hailpost first");
            return Ok(Err(Fault::new(Status::StoreVersion, detail)));
        }
        if version == 0 {
            connection.execute_batch(
                "BEGIN;
                 CREATE TABLE row (
                     tbl TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (tbl, key)
                 ) WITHOUT ROWID;
                 PRAGMA user_version = 1;
                 COMMIT",
            )?;
        }
        let check: Option<String> =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).optional()?;
        if check.as_deref() != Some("ok") {
            let detail = format!("{name} is damaged: set it aside and restore a backup");
            return Ok(Err(Fault::new(Status::StoreCorrupt, detail)));
        }
        Ok(Ok(()))
    }

    fn write_queued(&mut self) -> rusqlite::Result<Option<u64>> {
        let Some(last) = self.queued.back().map(|batch| batch.ticket) else { return Ok(None) };
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut put = transaction
                .prepare_cached("INSERT OR REPLACE INTO row (tbl, key, value) VALUES (?1, ?2, ?3)")?;
            let mut delete = transaction.prepare_cached("DELETE FROM row WHERE tbl = ?1 AND key = ?2")?;
            for op in self.queued.iter().flat_map(|batch| &batch.ops) {
                match op {
                    Op::Put { table, key, value } => put.execute((table.0, key, value))?,
                    Op::Delete { table, key } => delete.execute((table.0, key))?,
                };
            }
        }
        transaction.commit()?;
        Ok(Some(last))
    }
}

impl Store for Sqlite {
    fn submit(&mut self, batch: Batch) {
        self.queued.push_back(batch);
    }

    fn commit(&mut self) -> Result<u64, Fault> {
        match self.write_queued() {
            Ok(Some(ticket)) => {
                self.queued.clear();
                self.committed = ticket;
                Ok(ticket)
            }
            Ok(None) => Ok(self.committed),
            Err(error) => Err(fault("the store", &error)),
        }
    }

    fn is_dirty(&self) -> bool {
        !self.queued.is_empty()
    }

    fn load(&self, table: Table, row: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Fault> {
        let mut walk = || -> rusqlite::Result<()> {
            let mut select =
                self.connection.prepare_cached("SELECT key, value FROM row WHERE tbl = ?1 ORDER BY key")?;
            let mut rows = select.query([table.0])?;
            while let Some(found) = rows.next()? {
                let blob = |column| found.get_ref(column)?.as_blob().map_err(rusqlite::Error::from);
                row(blob(0)?, blob(1)?);
            }
            Ok(())
        };
        walk().map_err(|error| fault("the store", &error))
    }
}

/// SQLite makes files by the process's umask; ours are nobody else's business.
fn create_private(path: &Path) -> Result<(), Fault> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map(drop)
        .map_err(|error| Fault::new(Status::Io, format!("cannot open {}: {error}", path.display())))
}

fn fault(name: &str, error: &rusqlite::Error) -> Fault {
    let (status, advice) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (Status::StoreLocked, "another process has it open")
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            (Status::StoreCorrupt, "set it aside and restore a backup")
        }
        Some(ErrorCode::DiskFull) => (Status::Store, "free some disk space, it is tried again"),
        _ => (Status::Store, "it is tried again"),
    };
    Fault::new(status, format!("{name}: {error}: {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = Table("things");

    fn put(ticket: u64, key: &[u8], value: &[u8]) -> Batch {
        Batch { ticket, ops: vec![Op::Put { table: TABLE, key: key.to_vec(), value: value.to_vec() }] }
    }

    fn rows(store: &dyn Store) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        store.load(TABLE, &mut |key, value| rows.push((key.to_vec(), value.to_vec()))).unwrap();
        rows
    }

    #[test]
    fn what_was_committed_is_there_after_reopening_and_the_rest_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backend.db");
        let mut store = Sqlite::open(&path).unwrap();
        store.submit(put(1, b"b", b"2"));
        store.submit(put(2, b"a", b"1"));
        assert_eq!(store.commit().unwrap(), 2);
        store.submit(Batch { ticket: 3, ops: vec![Op::Delete { table: TABLE, key: b"b".to_vec() }] });
        assert_eq!(store.commit().unwrap(), 3);
        store.submit(put(4, b"c", b"3"));
        assert!(store.is_dirty());
        drop(store);
        assert_eq!(rows(&Sqlite::open(&path).unwrap()), [(b"a".to_vec(), b"1".to_vec())]);
    }

    #[test]
    fn a_second_opener_is_told_that_the_store_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backend.db");
        let _first = Sqlite::open(&path).unwrap();
        assert_eq!(Sqlite::open(&path).err().unwrap().status, Status::StoreLocked);
    }

    #[test]
    fn a_newer_schema_and_a_damaged_file_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backend.db");
        drop(Sqlite::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", SCHEMA + 1).unwrap();
        assert_eq!(Sqlite::open(&path).err().unwrap().status, Status::StoreVersion);
        let broken = dir.path().join("broken.db");
        std::fs::write(&broken, [0x5a; 8192]).unwrap();
        assert_eq!(Sqlite::open(&broken).err().unwrap().status, Status::StoreCorrupt);
    }
}
