//! Files, second openers, versions, copies; two tests run this test program again, to kill it or to see it refused.

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
        let left = |store: &mut dyn Store, table, to: &[u8]| ask(store, table, range(&[0; 8], to, 9)).len();
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
