//! Options from a TOML file and from the command line.

use std::path::PathBuf;

use hailpost::config::{Config, OPTIONS, OptionKind, Role};

use crate::failure::Failure;

/// `--config` and `--set`, the same for every subcommand that has options.
#[derive(clap::Args, Clone, Default)]
pub struct SettingsArgs {
    /// Options from a TOML file, in its section such as [backend] (`hailpost serve --options` lists them)
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
        let [config] = self.read_all([role])?;
        Ok(config)
    }

    /// The same of several roles. A setting is the first role's that understands it, unless it says which it is for:
    /// `office.max_waiting=5`.
    pub fn read_all<const N: usize>(&self, roles: [Role; N]) -> Result<[Config; N], Failure> {
        let mut configs = [const { None }; N].map(|_: Option<()>| Config::new());
        if let Some(path) = &self.config {
            configs.iter_mut().zip(roles).try_for_each(|(config, role)| config.load(path, role))?;
        }
        for setting in &self.set {
            let (name, value) = setting
                .split_once('=')
                .ok_or_else(|| Failure::usage(format!("--set {setting}: write NAME=VALUE")))?;
            let prefixed = name.split_once('.');
            let named = prefixed.and_then(|(role, _)| roles.iter().position(|known| known.name() == role));
            let name = prefixed.filter(|_| named.is_some()).map_or(name, |(_, name)| name);
            let understands =
                |role: &Role| OPTIONS.iter().any(|option| option.name == name && option.is_for(*role));
            let at = named.or_else(|| roles.iter().position(understands)).unwrap_or(0);
            let set = configs[at].set_for(roles[at], name, value);
            set.map_err(|fault| Failure::from(fault).about("--set"))?;
        }
        Ok(configs)
    }
}

/// Every option of a role as a commented TOML section.
pub fn listing(role: Role) -> String {
    let mut text = format!("[{}]\n", role.name());
    let known = OPTIONS.iter().filter(|option| option.is_for(role));
    for option in known.filter(|option| option.kind != OptionKind::Secret) {
        let value = match option.kind {
            OptionKind::Millis | OptionKind::Number(..) | OptionKind::Switch => option.default.to_owned(),
            _ => format!("{:?}", option.default),
        };
        text += &format!("# {}\n# {} = {value}\n", option.help, option.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_listing_reads_back() {
        for role in Role::ALL {
            let text: String =
                listing(role).lines().map(|line| format!("{}\n", line.trim_start_matches("# "))).collect();
            let text: String = text
                .lines()
                .filter(|line| line.starts_with('[') || line.contains(" = "))
                .map(|line| format!("{line}\n"))
                .collect();
            Config::new()
                .read_toml(&text, Path::new(""), role)
                .unwrap_or_else(|error| panic!("{error:?}\n{text}"));
        }
    }
}
