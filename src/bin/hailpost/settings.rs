//! Options from a TOML file and from the command line.
//!
//! A file has a section a role, `[backend]` and `[gateway]`, whose keys are the options' names. What is unknown or wrong
//! is an error with its line.

use std::{
    fs,
    path::{Path, PathBuf},
};

use hailpost::config::{Config, OPTIONS, OptionInfo, OptionKind, Role};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::failure::Failure;

/// `--config` and `--set`, the same for every subcommand that has options.
#[derive(clap::Args, Clone, Default)]
pub struct SettingsArgs {
    /// Options from a TOML file, in its [backend] or [gateway] section (`hailpost serve --options` lists them)
    #[arg(long, value_name = "F.toml")]
    pub config: Option<PathBuf>,
    /// One option, over what the file says; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// List every option with its default and its meaning, and end
    #[arg(long)]
    pub options: bool,
}

impl SettingsArgs {
    /// All of them in order: the file, then the command line.
    pub fn read(&self, role: Role) -> Result<Config, Failure> {
        let mut config = Config::new();
        if let Some(path) = &self.config {
            let text = fs::read_to_string(path)
                .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
            read(&text, path.parent().unwrap_or(Path::new("")), role, &mut config)
                .map_err(|(line, what)| Failure::usage(format!("{}: line {line}: {what}", path.display())))?;
        }
        for setting in &self.set {
            let (name, value) = setting
                .split_once('=')
                .ok_or_else(|| Failure::usage(format!("--set {setting}: write NAME=VALUE")))?;
            check_role(name, role).map_err(|why| Failure::usage(format!("--set {setting}: {why}")))?;
            config.set(name, value).map_err(|fault| Failure::from(fault).about("--set"))?;
        }
        Ok(config)
    }
}

/// Every option of a role as a commented TOML section.
pub fn listing(role: Role) -> String {
    let mut text = format!("[{}]\n", section(role));
    for option in of(role).filter(|option| option.kind != OptionKind::Secret) {
        let value = match option.kind {
            OptionKind::Millis | OptionKind::Number(..) | OptionKind::Switch => option.default.to_owned(),
            _ => format!("{:?}", option.default),
        };
        text += &format!("# {}\n# {} = {value}\n", option.help, option.name);
    }
    text
}

/// Reads the role's section. Paths in it are relative to `base`. An error has its line, from 1.
fn read(text: &str, base: &Path, role: Role, config: &mut Config) -> Result<(), (usize, String)> {
    let line = |offset: usize| {
        text.as_bytes()[..offset.min(text.len())].iter().filter(|octet| **octet == b'\n').count() + 1
    };
    let document = DeTable::parse(text).map_err(|error| {
        (line(error.span().map_or(0, |span| span.start)), error.message().trim_end().to_owned())
    })?;
    for (key, value) in document.get_ref() {
        let here = line(key.span().start);
        let known = match key.get_ref().as_ref() {
            "backend" => Role::Backend,
            "gateway" => Role::Gateway,
            other => {
                return Err((here, format!("there is no section {other:?}: write [backend] or [gateway]")));
            }
        };
        let DeValue::Table(options) = value.get_ref() else {
            return Err((here, format!("{} is a section: write [{}]", key.get_ref(), key.get_ref())));
        };
        let mut ignored = Config::new();
        let config = if known == role { &mut *config } else { &mut ignored };
        for (key, value) in options {
            let name = key.get_ref().as_ref();
            let wrong = |why: String| (line(key.span().start), why);
            check_role(name, known).map_err(wrong)?;
            let text = scalar(name, value).map_err(|why| wrong(format!("{name}: {why}")))?;
            let text = resolve(name, text, base);
            config.set(name, &text).map_err(|fault| wrong(fault.detail))?;
        }
    }
    Ok(())
}

fn scalar(name: &str, value: &Spanned<DeValue<'_>>) -> Result<String, String> {
    Ok(match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_err(|_| format!("{} is too large", number.as_str()))?
            .to_string(),
        DeValue::Boolean(switch) => switch.to_string(),
        DeValue::Array(items) => {
            let items: Result<Vec<String>, String> = items.iter().map(|item| scalar(name, item)).collect();
            items?.join(",")
        }
        _ => return Err("a text, a number, true, false or a list of texts is wanted".to_owned()),
    })
}

/// A path in a file means the same wherever the program is started.
fn resolve(name: &str, value: String, base: &Path) -> String {
    let is_path = OPTIONS.iter().any(|option| option.name == name && option.kind == OptionKind::Path);
    let is_rules = name == "rules" && !matches!(value.as_str(), "home" | "none");
    match (is_path || is_rules) && !value.is_empty() {
        true => base.join(value).display().to_string(),
        false => value,
    }
}

fn check_role(name: &str, role: Role) -> Result<(), String> {
    let Some(option) = OPTIONS.iter().find(|option| option.name == name) else {
        // The configuration's own error says what was meant.
        return Config::new().set(name, "").map_err(|fault| fault.detail);
    };
    if option.kind == OptionKind::Secret {
        return Err(format!("{name} is a secret: write it to a file of mode 0600 and set identity_file"));
    }
    match of(role).any(|known| known.name == name) {
        true => Ok(()),
        false => Err(format!("{name} is no option of a {}", section(role))),
    }
}

fn of(role: Role) -> impl Iterator<Item = &'static OptionInfo> {
    OPTIONS.iter().filter(move |option| option.role == role || option.role == Role::Any)
}

fn section(role: Role) -> &'static str {
    match role {
        Role::Gateway => "gateway",
        _ => "backend",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_sets_options_and_its_paths_are_its_own() {
        let text = "[backend]\nheartbeat_ms = 500\ntrain = false\nlisten = ['tls://127.0.0.1:0', \"udp://[::1]:0\"]\n\
                    identity_file = 'key.pem'\n[gateway]\nheartbeat_ms = 7\n";
        let mut config = Config::new();
        read(text, Path::new("/etc/hailpost"), Role::Backend, &mut config).unwrap();
        assert_eq!(config.number("heartbeat_ms"), 500);
        assert!(!config.switch("train"));
        assert_eq!(config.text("listen"), "tls://127.0.0.1:0,udp://[::1]:0");
        assert_eq!(config.text("identity_file"), "/etc/hailpost/key.pem");
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        let cases = [
            ("[backend]\nhartbeat_ms = 1\n", 2, "did you mean heartbeat_ms"),
            ("[backend]\n\nheartbeat_ms = 0\n", 3, "at least 1"),
            ("[office]\n", 1, "there is no section"),
            ("backend = 3\n", 1, "is a section"),
            ("[backend]\nbackoff_ms = 1\n", 2, "no option of a backend"),
            ("[backend]\nidentity_pem = 'x'\n", 2, "is a secret"),
            ("[backend]\nlisten = { a = 1 }\n", 2, "a text, a number"),
            ("[backend]\nx = \n", 2, ""),
            ("[gateway]\nrules = 3\nfamily = 5\n", 3, "4 or 6"),
        ];
        for (text, line, what) in cases {
            let error = read(text, Path::new(""), Role::Backend, &mut Config::new()).unwrap_err();
            assert_eq!(error.0, line, "{text}: {}", error.1);
            assert!(error.1.contains(what), "{text}: {}", error.1);
        }
    }

    #[test]
    fn the_listing_reads_back() {
        for role in [Role::Backend, Role::Gateway] {
            let text: String =
                listing(role).lines().map(|line| format!("{}\n", line.trim_start_matches("# "))).collect();
            let text: String = text
                .lines()
                .filter(|line| line.starts_with('[') || line.contains(" = "))
                .map(|line| format!("{line}\n"))
                .collect();
            read(&text, Path::new(""), role, &mut Config::new())
                .unwrap_or_else(|error| panic!("{error:?}\n{text}"));
        }
    }
}
