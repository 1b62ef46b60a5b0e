//! Rows in one SQLite file: write-ahead log, `synchronous=FULL`, one transaction for all that waits.

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

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = Table::rows("things");
    const LOG: Table = Table::log("log");

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

    fn ask(store: &mut dyn Store, table: Table, wanted: Wanted) -> Vec<Row> {
        store.ask(Fetch { ticket: 7, table, wanted });
        let answer = store.answer().unwrap();
        assert!(answer.ticket == 7 && store.answer().is_none());
        answer.rows.unwrap()
    }

    fn range(from: &[u8], to: &[u8], limit: usize) -> Wanted {
        Wanted::Range { from: from.to_vec(), to: to.to_vec(), limit }
    }

    /// Both engines, asked the same, answer the same.
    #[test]
    fn rows_are_found_by_range_and_by_key_and_removed_by_range() {
        let dir = tempfile::tempdir().unwrap();
        let engines: [Box<dyn Store>; 2] = [
            Box::new(Sqlite::open(&dir.path().join("store.db")).unwrap()),
            Box::<super::super::Memory>::default(),
        ];
        for mut store in engines {
            let numbered = |number: u64| [&b"queue"[..], &number.to_be_bytes()].concat();
            let log = |number: u64| number.to_be_bytes().to_vec();
            assert_eq!(ask(&mut *store, TABLE, range(b"", b"zz", 9)), []);
            assert_eq!(ask(&mut *store, LOG, Wanted::Keys(vec![log(1)])), []);
            let ops = (1..=5u64).flat_map(|number| {
                let put = |table, key: Vec<u8>, value: &[u8]| Op::Put { table, key, value: value.to_vec() };
                [put(TABLE, numbered(number), b""), put(LOG, log(number), &[number as u8])]
            });
            store.submit(Batch { ticket: 1, ops: ops.collect() });
            assert_eq!(ask(&mut *store, TABLE, range(b"", b"zz", 9)), [], "only what is durable is found");
            store.commit().unwrap();
            let found = ask(&mut *store, TABLE, range(&numbered(2), &numbered(4), 2));
            let keys: Vec<_> = found.into_iter().map(|row| row.key).collect();
            assert_eq!(keys, [numbered(2), numbered(3)]);
            let found = ask(&mut *store, LOG, Wanted::Keys(vec![log(4), log(9), log(1)]));
            assert_eq!(
                found,
                [Row { key: log(4), value: vec![4] }, Row { key: log(1), value: vec![1] }],
                "as asked, without those that there are not"
            );
            let found = ask(&mut *store, TABLE, Wanted::Keys(vec![numbered(5)]));
            assert_eq!(found, [Row { key: numbered(5), value: vec![] }]);
            assert_eq!(ask(&mut *store, LOG, range(&log(4), &log(i64::MAX as u64), 9)).len(), 2);
            assert_eq!(ask(&mut *store, TABLE, range(b"b", b"a", 9)), [], "a range that is none");
            let gone = |table, from: Vec<u8>, to: Vec<u8>| Op::DeleteRange { table, from, to };
            let ops = vec![gone(LOG, log(2), log(4)), gone(TABLE, numbered(1), numbered(1))];
            store.submit(Batch { ticket: 2, ops });
            store.commit().unwrap();
            let left =
                |store: &mut dyn Store, table, to: &[u8]| ask(store, table, range(&[0; 8], to, 9)).len();
            assert_eq!((left(&mut *store, TABLE, b"zz"), left(&mut *store, LOG, &log(9))), (4, 2));
        }
    }

    /// Both engines: what is durable when it begins is in the copy, all of it and nothing else.
    #[test]
    fn a_copy_has_what_was_durable_at_its_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let engines: [Box<dyn Store>; 2] =
            [Box::new(Sqlite::open(&path).unwrap()), Box::<super::super::Memory>::default()];
        for (at, mut store) in engines.into_iter().enumerate() {
            let name = |number: u32| dir.path().join(format!("copy{at}{number}"));
            assert_eq!(store.backup_step().err().unwrap().status, Status::State);
            let mut ticket = 0;
            let mut write = |store: &mut dyn Store, key: u32, octets: usize| {
                ticket += 1;
                store.submit(put(ticket, &key.to_be_bytes(), &vec![key as u8; octets]));
                store.commit().unwrap();
            };
            (0..40).for_each(|key| write(&mut *store, key, 100_000));
            store.submit(put(900, b"not yet", b""));
            store.backup(&name(1)).unwrap();
            assert_eq!(store.backup(&name(2)).err().unwrap().status, Status::State, "one at a time");
            let mut steps = 0;
            loop {
                let copied = store.backup_step().unwrap();
                steps += 1;
                assert!(copied.octets <= copied.of && copied.of >= 4_000_000, "{copied:?}");
                if copied.done {
                    break;
                }
                assert!(!name(1).exists());
                // More than what the log is written back at.
                (0..20).for_each(|key| write(&mut *store, 1000 * steps + key, 100_000));
            }
            assert!(steps >= 4, "{steps}");
            assert!(!dir.path().join(format!("copy{at}1.part")).exists());
            let copy = Sqlite::open(&name(1)).unwrap();
            let keys: Vec<Vec<u8>> = rows(&copy).into_iter().map(|(key, _)| key).collect();
            assert_eq!(keys, (0..40u32).map(|key| key.to_be_bytes().to_vec()).collect::<Vec<_>>());
            drop(copy);

            // Given up, or into a name that is taken.
            assert_eq!(store.backup(&name(1)).err().unwrap().status, Status::State);
            store.backup(&name(3)).unwrap();
            store.backup_cancel();
            store.backup(&name(3)).unwrap();
            store.backup_step().unwrap();
            drop(store);
            assert_eq!(
                std::fs::read_dir(dir.path())
                    .unwrap()
                    .flatten()
                    .filter(|entry| { entry.file_name().to_string_lossy().contains("copy") })
                    .count(),
                1 + at,
                "only what is whole is left"
            );
        }
    }

    /// A descriptor of the file that is closed would take the lock away.
    #[test]
    fn the_store_is_locked_after_a_copy_and_its_log_is_written_back_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let mut store = Sqlite::open(&path).unwrap();
        for ticket in 1..=3 {
            store.backup(&dir.path().join(format!("copy{ticket}"))).unwrap();
            while !store.backup_step().unwrap().done {}
        }
        let me = std::env::current_exe().unwrap();
        let other = std::process::Command::new(me)
            .args(["--exact", "store::sqlite::tests::child_that_opens", "--ignored"])
            .env("HAILPOST_TEST_STORE", &path)
            .output()
            .unwrap();
        assert!(other.status.success(), "{}", String::from_utf8_lossy(&other.stdout));
        for ticket in 1..=60 {
            store.submit(put(ticket, b"a", &vec![0; 1 << 18]));
            store.commit().unwrap();
        }
        let log = std::fs::metadata(dir.path().join("store.db-wal")).unwrap().len();
        assert!(log < 12 << 20, "the log has {log} octets");
    }

    #[test]
    fn killed_midway_a_copy_leaves_a_part_and_the_next_one_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let mut store = Sqlite::open(&path).unwrap();
        for ticket in 1..=30 {
            store.submit(put(ticket, &ticket.to_be_bytes(), &vec![7; 100_000]));
            store.commit().unwrap();
        }
        drop(store);
        let me = std::env::current_exe().unwrap();
        let mut killed = std::process::Command::new(me);
        killed.args(["--exact", "store::sqlite::tests::child_that_is_killed", "--ignored"]);
        assert!(!killed.env("HAILPOST_TEST_STORE", &path).output().unwrap().status.success());
        let (copy, part) = (dir.path().join("copy"), dir.path().join("copy.part"));
        assert!(part.exists() && !copy.exists());
        let mut store = Sqlite::open(&path).unwrap();
        assert_eq!(rows(&store).len(), 31, "what came during the copy is in its log");
        store.backup(&copy).unwrap();
        while !store.backup_step().unwrap().done {}
        assert_eq!(rows(&Sqlite::open(&copy).unwrap()).len(), 31);
        assert!(!part.exists());
    }

    #[test]
    #[ignore = "run by the test above, in a process of its own"]
    fn child_that_is_killed() {
        let Some(path) = std::env::var_os("HAILPOST_TEST_STORE").map(PathBuf::from) else { return };
        let mut store = Sqlite::open(&path).unwrap();
        store.backup(&path.with_file_name("copy")).unwrap();
        assert!(!store.backup_step().unwrap().done);
        store.submit(put(1, b"meanwhile", b""));
        store.commit().unwrap();
        std::process::abort();
    }

    #[test]
    #[ignore = "run by a test above, in a process of its own"]
    fn child_that_opens() {
        let Some(path) = std::env::var_os("HAILPOST_TEST_STORE") else { return };
        assert_eq!(Sqlite::open(Path::new(&path)).err().map(|fault| fault.status), Some(Status::StoreLocked));
    }

    #[test]
    fn a_file_of_the_first_schema_is_brought_forward_and_kept_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backend.db");
        Connection::open(&path)
            .unwrap()
            .execute_batch(
                "CREATE TABLE row (tbl TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (tbl, key))
                     WITHOUT ROWID;
                 INSERT INTO row VALUES ('things', x'61', x'31'), ('other', x'62', x'32');
                 PRAGMA user_version = 1",
            )
            .unwrap();
        assert_eq!(rows(&Sqlite::open(&path).unwrap()), [(b"a".to_vec(), b"1".to_vec())]);
        assert_eq!(rows(&Sqlite::open(&path).unwrap()), [(b"a".to_vec(), b"1".to_vec())]);
        assert!(dir.path().join("backend.db.schema1").exists());
    }
}
