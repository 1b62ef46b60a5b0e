//! Options from a TOML file: a section a role, such as `[gateway]`, whose keys are the options' names.
//!
//! What is unknown or wrong is an error with its line, also in the section of another role. Paths are relative to the
//! file. A secret does not stand in it, but in a file of mode 0600 that it names.

use std::{fs, path::Path};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Config, OptionKind, Role, find};
use crate::status::{Fault, Status};

impl Config {
    /// Sets what a file says to `role`. After a failure nothing has changed.
    ///
    /// # Errors
    /// `Io` when the file cannot be read; `Config` with file and line when a key or value cannot be used.
    pub fn load(&mut self, path: &Path, role: Role) -> Result<(), Fault> {
        let text = fs::read_to_string(path)
            .map_err(|error| Fault::new(Status::Io, format!("cannot read {}: {error}", path.display())))?;
        self.read_toml(&text, path.parent().unwrap_or(Path::new("")), role)
            .map_err(|fault| Fault { detail: format!("{}: {}", path.display(), fault.detail), ..fault })
    }

    /// The same of text, whose paths are relative to `base`.
    ///
    /// # Errors
    /// `Config` with the line when a key or value cannot be used.
    pub fn read_toml(&mut self, text: &str, base: &Path, role: Role) -> Result<(), Fault> {
        let wrong = |at: usize, why: &str| {
            let before = &text.as_bytes()[..at.min(text.len())];
            let line = 1 + before.iter().filter(|octet| **octet == b'\n').count();
            Fault::new(Status::Config, format!("line {line}: {why}"))
        };
        let document = DeTable::parse(text)
            .map_err(|error| wrong(error.span().map_or(0, |span| span.start), error.message().trim_end()))?;
        let (mut ours, mut others) = (self.clone(), Config::new());
        for (name, value) in document.get_ref() {
            let at = name.span().start;
            let Some(known) = Role::ALL.into_iter().find(|role| role.name() == name.get_ref()) else {
                let names = Role::ALL.map(|role| format!("[{}]", role.name())).join(", ");
                let why = format!("there is no section {:?}: there are {names}", name.get_ref());
                return Err(wrong(at, &why));
            };
            let DeValue::Table(options) = value.get_ref() else {
                let name = known.name();
                return Err(wrong(at, &format!("{name} is a section: write [{name}]")));
            };
            let config = if known == role { &mut ours } else { &mut others };
            for (key, value) in options {
                let (at, name) = (key.span().start, key.get_ref().as_ref());
                let value = scalar(value).map_err(|why| match find(name) {
                    Ok(_) => wrong(at, &format!("{name}: {why}")),
                    Err(fault) => wrong(at, &fault.detail),
                })?;
                config
                    .set_for(known, name, &resolved(name, value, base))
                    .map_err(|fault| wrong(at, &fault.detail))?;
            }
        }
        *self = ours;
        Ok(())
    }
}

fn scalar(value: &Spanned<DeValue<'_>>) -> Result<String, String> {
    Ok(match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_err(|_| format!("{} is too large", number.as_str()))?
            .to_string(),
        DeValue::Boolean(switch) => switch.to_string(),
        DeValue::Array(items) => items.iter().map(scalar).collect::<Result<Vec<_>, _>>()?.join(","),
        _ => return Err("a text, a number, true, false or a list of texts is wanted".to_owned()),
    })
}

/// A path in a file means the same wherever the process was started.
fn resolved(name: &str, value: String, base: &Path) -> String {
    let is_path = find(name).is_ok_and(|option| option.kind == OptionKind::Path);
    let is_rules = name == "rules" && !matches!(value.as_str(), "home" | "none");
    match (is_path || is_rules) && !value.is_empty() {
        true => base.join(value).display().to_string(),
        false => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_sets_options_and_its_paths_are_its_own() {
        let text = "[backend]\nheartbeat_ms = 500\ntrain = false\nlisten = ['tls://127.0.0.1:0', \"udp://[::1]:0\"]\n\
                    identity_file = 'key.pem'\n[gateway]\nheartbeat_ms = 0x7\nrules = 'r.toml'\n";
        let mut config = Config::new();
        config.read_toml(text, Path::new("/etc/hailpost"), Role::Backend).unwrap();
        assert_eq!(config.number("heartbeat_ms"), 500);
        assert!(!config.switch("train"));
        assert_eq!(config.text("listen"), "tls://127.0.0.1:0,udp://[::1]:0");
        assert_eq!(config.text("identity_file"), "/etc/hailpost/key.pem");
        let mut config = Config::new();
        config.read_toml(text, Path::new("/etc/hailpost"), Role::Gateway).unwrap();
        assert_eq!((config.number("heartbeat_ms"), config.text("rules")), (7, "/etc/hailpost/r.toml"));
        // What `dump` shows can be read again.
        let dump = format!("[gateway]\n{}", config.dump(Role::Gateway));
        Config::new().read_toml(&dump, Path::new(""), Role::Gateway).unwrap();
    }

    #[test]
    fn what_is_wrong_has_its_line_and_changes_nothing() {
        let cases = [
            ("[backend]\nsends = 4\nhartbeat_ms = 1\n", 3, "did you mean heartbeat_ms"),
            ("[backend]\n\nheartbeat_ms = 0\n", 3, "at least 1"),
            ("[offices]\n", 1, "there is no section"),
            ("backend = 3\n", 1, "is a section"),
            ("[backend\n", 1, ""),
            ("[backend]\nbackoff_ms = 1\n", 2, "no option of a backend"),
            ("[backend]\nidentity_pem = 'x'\n", 2, "0600 and set identity_file"),
            ("[backend]\nlisten = { a = 1 }\n", 2, "a text, a number"),
            ("[backend]\nx = { a = 1 }\n", 2, "there is no option"),
            ("[backend]\nsends = 99999999999999999999\n", 2, "too large"),
            ("[backend]\nx = \n", 2, ""),
            ("[gateway]\nrules = 3\nfamily = 5\n", 3, "4 or 6"),
        ];
        for (text, line, what) in cases {
            let mut config = Config::new();
            let error = config.read_toml(text, Path::new(""), Role::Backend).unwrap_err();
            assert_eq!(error.status, Status::Config);
            assert!(error.detail.starts_with(&format!("line {line}: ")), "{text}: {}", error.detail);
            assert!(error.detail.contains(what), "{text}: {}", error.detail);
            assert_eq!(config.number("sends"), 3);
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_told_from_a_wrong_one() {
        let dir = tempfile::tempdir().unwrap();
        let (gone, wrong) = (dir.path().join("gone.toml"), dir.path().join("wrong.toml"));
        fs::write(&wrong, "[gateway]\nsends = 0\n").unwrap();
        let mut config = Config::new();
        assert_eq!(config.load(&gone, Role::Gateway).unwrap_err().status, Status::Io);
        let error = config.load(&wrong, Role::Gateway).unwrap_err();
        assert_eq!(error.status, Status::Config);
        assert!(error.detail.contains("wrong.toml: line 2: "), "{error}");
    }
}
