//! Rows in one SQLite file: write-ahead log, `synchronous=FULL`, one transaction for all that waits.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rusqlite::{
    CachedStatement, Connection, ErrorCode, OptionalExtension, ToSql, TransactionBehavior,
    types::{ToSqlOutput, Value, ValueRef},
};

use super::{
    Batch, Copied, Fetch, Fetched, Keys, Op, Row, Store, Table, Wanted,
    copy::{NewFile, PIECE},
};
use crate::status::{Fault, Status};

/// The schema that this version writes; kept in `PRAGMA user_version`. 1 had all rows in one table.
const SCHEMA: i32 = 2;
/// Statements kept ready.
const STATEMENTS: usize = 128;
/// Pages that the log has when it is written back: SQLite's own default.
const AUTOCHECKPOINT: i32 = 1000;

/// The engine on SQLite. A [`Table`] is a table of its own, made when it is first written.
pub struct Sqlite {
    /// Closed before `own`.
    connection: Connection,
    /// The file, to copy it from. Once it is open it stays: closing it would take SQLite's lock of it away (fcntl(2)).
    own: Option<File>,
    path: PathBuf,
    copying: Option<Copying>,
    queued: VecDeque<Batch>,
    answers: VecDeque<Fetched>,
    committed: u64,
    /// By table that is there.
    known: BTreeMap<Table, Statements>,
}

/// A copy under way. Meanwhile the log is not written back, so that the file stays as it is.
struct Copying {
    file: NewFile,
    copied: Copied,
}

/// What is said to SQLite about one table.
struct Statements {
    put: String,
    delete: String,
    delete_range: String,
    get: String,
    range: String,
    all: String,
}

impl Statements {
    fn new(table: Table) -> Statements {
        let name = table.name;
        Statements {
            put: format!("INSERT OR REPLACE INTO \"{name}\" (key, value) VALUES (?1, ?2)"),
            delete: format!("DELETE FROM \"{name}\" WHERE key = ?1"),
            delete_range: format!("DELETE FROM \"{name}\" WHERE key BETWEEN ?1 AND ?2"),
            get: format!("SELECT value FROM \"{name}\" WHERE key = ?1"),
            range: format!(
                "SELECT key, value FROM \"{name}\" WHERE key BETWEEN ?1 AND ?2 ORDER BY key LIMIT ?3"
            ),
            all: format!("SELECT key, value FROM \"{name}\" ORDER BY key"),
        }
    }

    fn of(&self, verb: Verb) -> &str {
        match verb {
            Verb::Put => &self.put,
            Verb::Delete => &self.delete,
            Verb::DeleteRange => &self.delete_range,
        }
    }
}

/// What an [`Op`] does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Put,
    Delete,
    DeleteRange,
}

impl Verb {
    const fn of(op: &Op) -> Verb {
        match op {
            Op::Put { .. } => Verb::Put,
            Op::Delete { .. } => Verb::Delete,
            Op::DeleteRange { .. } => Verb::DeleteRange,
        }
    }
}

/// A key as SQLite has it: rows in order of whole numbers are packed, and found, without comparing octets.
struct Key<'a>(Keys, &'a [u8]);

impl ToSql for Key<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Key(Keys::Octets, octets) => ToSqlOutput::Borrowed(ValueRef::Blob(octets)),
            Key(Keys::Numbers, octets) => {
                let octets = <[u8; 8]>::try_from(*octets).map_err(|_| rusqlite::Error::InvalidQuery)?;
                let number = i64::try_from(u64::from_be_bytes(octets)).unwrap_or(i64::MAX);
                ToSqlOutput::Owned(Value::Integer(number))
            }
        })
    }
}

fn key_of(keys: Keys, found: &rusqlite::Row<'_>) -> rusqlite::Result<Vec<u8>> {
    Ok(match keys {
        Keys::Octets => found.get_ref(0)?.as_blob()?.to_vec(),
        Keys::Numbers => found.get_ref(0)?.as_i64()?.to_be_bytes().to_vec(),
    })
}

impl Sqlite {
    /// Opens the file, or makes it (mode 0600), and holds it alone until dropped. A file of an older version is brought
    /// forward, after a copy of it was put beside it.
    ///
    /// Fails with [`Status::StoreLocked`] while another process has it, [`Status::StoreVersion`] when a newer
    /// version wrote it, [`Status::StoreCorrupt`] when it is damaged.
    pub fn open(path: &Path) -> Result<Sqlite, Fault> {
        let name = path.display().to_string();
        create_private(path)?;
        let connection = Connection::open(path).map_err(|error| fault(&name, &error))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        let opened = Sqlite {
            connection,
            own: None,
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            copying: None,
            queued: VecDeque::new(),
            answers: VecDeque::new(),
            committed: 0,
            known: BTreeMap::new(),
        };
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
        let check: Option<String> =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).optional()?;
        if check.as_deref() != Some("ok") {
            let detail = format!("{name} is damaged: set it aside and restore a backup");
            return Ok(Err(Fault::new(Status::StoreCorrupt, detail)));
        }
        if version == 1 {
            connection.execute("VACUUM INTO ?1", [format!("{name}.schema1")])?;
            self.bring_schema_1_forward()?;
        }
        if version != SCHEMA {
            connection.pragma_update(None, "user_version", SCHEMA)?;
        }
        Ok(Ok(()))
    }

    /// One table that had all rows becomes one each.
    fn bring_schema_1_forward(&self) -> rusqlite::Result<()> {
        let transaction = self.connection.unchecked_transaction()?;
        let names: Vec<String> = transaction
            .prepare("SELECT DISTINCT tbl FROM row")?
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for name in names.iter().filter(|name| is_plain(name)) {
            create(&transaction, name, Keys::Octets)?;
            let copy =
                format!("INSERT INTO \"{name}\" (key, value) SELECT key, value FROM row WHERE tbl = ?1");
            transaction.execute(&copy, [name])?;
        }
        transaction.execute_batch("DROP TABLE row")?;
        transaction.pragma_update(None, "user_version", SCHEMA)?;
        transaction.commit()
    }

    fn write_queued(&mut self) -> rusqlite::Result<Option<u64>> {
        let Some(last) = self.queued.back().map(|batch| batch.ticket) else { return Ok(None) };
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Most that is written follows its like: the statement at hand is looked up when another one is needed.
        let mut at_hand: Option<(Table, Verb, CachedStatement<'_>)> = None;
        for op in self.queued.iter().flat_map(|batch| &batch.ops) {
            let (table, verb) = (op.table(), Verb::of(op));
            let statement = match &mut at_hand {
                Some((one, other, statement)) if (*one, *other) == (table, verb) => statement,
                _ => {
                    let statements = match self.known.entry(table) {
                        Entry::Occupied(known) => known.into_mut(),
                        Entry::Vacant(vacant) => {
                            // Should the transaction fail, it is made again: `IF NOT EXISTS`.
                            create(&transaction, table.name, table.keys)?;
                            vacant.insert(Statements::new(table))
                        }
                    };
                    let statement = transaction.prepare_cached(statements.of(verb))?;
                    &mut at_hand.insert((table, verb, statement)).2
                }
            };
            let key = |octets| Key(table.keys, octets);
            match op {
                Op::Put { key: octets, value, .. } => statement.execute((key(octets), value))?,
                Op::Delete { key: octets, .. } => statement.execute([key(octets)])?,
                Op::DeleteRange { from, to, .. } => statement.execute([key(from), key(to)])?,
            };
        }
        drop(at_hand);
        transaction.commit()?;
        Ok(Some(last))
    }

    /// Writes all of the log back into the file, and then none of it.
    fn freeze(&self) -> rusqlite::Result<bool> {
        self.autocheckpoint(0)?;
        let busy: i64 = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        Ok(busy == 0)
    }

    fn autocheckpoint(&self, pages: i32) -> rusqlite::Result<()> {
        self.connection.pragma_update_and_check(None, "wal_autocheckpoint", pages, |_| Ok(()))
    }

    /// The copy is whole, or given up.
    fn thaw(&mut self) {
        self.copying = None;
        // It is a number of the connection's, nothing of the file's.
        let _ = self.autocheckpoint(AUTOCHECKPOINT);
    }

    fn begin_copy(&mut self, to: &Path) -> Result<Copying, Fault> {
        let file = NewFile::create(to)?;
        match self.freeze() {
            Ok(true) => {}
            Ok(false) => return Err(Fault::new(Status::State, "the store is busy: try again")),
            Err(error) => return Err(fault("the store", &error)),
        }
        let own = match self.own.take() {
            Some(own) => own,
            None => File::open(&self.path).map_err(|error| self.unreadable(&error))?,
        };
        let of = self.own.insert(own).metadata().map(|meta| meta.len());
        let of = of.map_err(|error| self.unreadable(&error))?;
        Ok(Copying { file, copied: Copied { octets: 0, of, done: false } })
    }

    fn unreadable(&self, error: &std::io::Error) -> Fault {
        Fault::new(Status::Io, format!("cannot read {}: {error}", self.path.display()))
    }

    /// Copies a piece, and has it on the disk: what is left to the kernel until the end would be one long wait then.
    fn copy_piece(&mut self) -> Result<Copied, Fault> {
        let (Some(copying), Some(own)) = (self.copying.as_mut(), self.own.as_ref()) else {
            return Err(Fault::new(Status::State, "no copy is under way"));
        };
        let Copied { octets: at, of, .. } = copying.copied;
        let mut piece = vec![0; PIECE.min(usize::try_from(of - at).unwrap_or(PIECE))];
        if let Err(error) = own.read_exact_at(&mut piece, at) {
            return Err(self.unreadable(&error));
        }
        let file = copying.file.file();
        let written = file.write_all_at(&piece, at).and_then(|()| file.sync_data());
        written.map_err(|error| copying.file.fault(&error))?;
        copying.copied.octets += piece.len() as u64;
        let copied = copying.copied;
        if copied.octets < of {
            return Ok(copied);
        }
        let copying = self.copying.take().expect("it was just seen");
        copying.file.finish()?;
        Ok(Copied { done: true, ..copied })
    }

    fn exists(&self, table: Table) -> rusqlite::Result<bool> {
        let mut found = self.connection.prepare_cached("SELECT 1 FROM sqlite_schema WHERE name = ?1")?;
        found.exists([table.name])
    }

    fn find(&self, fetch: &Fetch) -> rusqlite::Result<Vec<Row>> {
        let Fetch { table, wanted, .. } = fetch;
        if !self.known.contains_key(table) && !self.exists(*table)? {
            return Ok(Vec::new());
        }
        let keys = table.keys;
        let mut rows = Vec::new();
        match wanted {
            Wanted::Range { from, to, limit } => {
                let mut range = self.connection.prepare_cached(&Statements::new(*table).range)?;
                let limit = i64::try_from(*limit).unwrap_or(i64::MAX);
                let mut found = range.query((Key(keys, from), Key(keys, to), limit))?;
                while let Some(row) = found.next()? {
                    rows.push(Row { key: key_of(keys, row)?, value: row.get_ref(1)?.as_blob()?.to_vec() });
                }
            }
            Wanted::Keys(wanted) => {
                let mut get = self.connection.prepare_cached(&Statements::new(*table).get)?;
                for key in wanted {
                    let mut found = get.query([Key(keys, key)])?;
                    if let Some(row) = found.next()? {
                        rows.push(Row { key: key.clone(), value: row.get_ref(0)?.as_blob()?.to_vec() });
                    }
                }
            }
        }
        Ok(rows)
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
            Err(error) => {
                self.known.clear();
                Err(fault("the store", &error))
            }
        }
    }

    fn is_dirty(&self) -> bool {
        !self.queued.is_empty()
    }

    fn ask(&mut self, fetch: Fetch) {
        let rows = self.find(&fetch).map_err(|error| fault("the store", &error));
        self.answers.push_back(Fetched { ticket: fetch.ticket, rows });
    }

    fn answer(&mut self) -> Option<Fetched> {
        self.answers.pop_front()
    }

    fn load(&self, table: Table, row: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Fault> {
        let mut walk = || -> rusqlite::Result<()> {
            if !self.exists(table)? {
                return Ok(());
            }
            let mut select = self.connection.prepare_cached(&Statements::new(table).all)?;
            let mut rows = select.query([])?;
            while let Some(found) = rows.next()? {
                row(&key_of(table.keys, found)?, found.get_ref(1)?.as_blob()?);
            }
            Ok(())
        };
        walk().map_err(|error| fault("the store", &error))
    }

    fn backup(&mut self, to: &Path) -> Result<(), Fault> {
        if self.copying.is_some() {
            return Err(Fault::new(Status::State, "a copy is under way: wait for its end"));
        }
        match self.begin_copy(to) {
            Ok(copying) => {
                self.copying = Some(copying);
                Ok(())
            }
            Err(fault) => {
                self.thaw();
                Err(fault)
            }
        }
    }

    fn backup_step(&mut self) -> Result<Copied, Fault> {
        let copied = self.copy_piece();
        if !copied.as_ref().is_ok_and(|copied| !copied.done) {
            self.thaw();
        }
        copied
    }

    fn backup_cancel(&mut self) {
        if self.copying.is_some() {
            self.thaw();
        }
    }
}

fn create(connection: &Connection, name: &str, keys: Keys) -> rusqlite::Result<()> {
    connection.execute_batch(&match keys {
        Keys::Octets => format!(
            "CREATE TABLE IF NOT EXISTS \"{name}\" (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) WITHOUT ROWID"
        ),
        Keys::Numbers => {
            format!("CREATE TABLE IF NOT EXISTS \"{name}\" (key INTEGER PRIMARY KEY, value BLOB NOT NULL)")
        }
    })
}

fn is_plain(name: &str) -> bool {
    name.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'_')
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
