//! Rules files: TOML, one `[[rule]]` table a rule with `app_id`, `name` and `pattern`.

use std::collections::BTreeMap;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{AppId, Limits, Rule, RuleSet};

/// A rules file, read and compiled.
#[derive(Debug)]
pub struct RulesFile {
    /// The rules in the file's order.
    pub rules: Vec<NamedRule>,
    /// The rules compiled.
    pub set: RuleSet,
    names: BTreeMap<AppId, String>,
}

/// A rule with the name of its application and its place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedRule {
    /// The rule.
    pub rule: Rule,
    /// What people call the application.
    pub name: String,
    /// The line its table begins on, from 1.
    pub line: usize,
}

/// Why a rules file was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct RulesFileError {
    /// The line to look at, from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

impl RulesFile {
    /// Reads a file's text and compiles its rules.
    ///
    /// # Errors
    /// [`RulesFileError`]: not TOML, an unknown or missing key, a value of the wrong kind, two names for one AppID or
    /// two AppIDs for one name, or a rule that [`RuleSet::compile`] refuses.
    pub fn parse(text: &str, limits: Limits) -> Result<RulesFile, RulesFileError> {
        let at = |offset: usize, what: String| RulesFileError { line: line(text, offset), what };
        let document = DeTable::parse(text)
            .map_err(|error| at(error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
        let mut rules: Vec<NamedRule> = Vec::new();
        let mut names: BTreeMap<AppId, String> = BTreeMap::new();
        let mut ids: BTreeMap<String, AppId> = BTreeMap::new();
        for (key, value) in document.get_ref() {
            let tables = match (key.get_ref().as_ref(), value.get_ref()) {
                ("rule", DeValue::Array(tables)) => tables,
                ("rule", _) => {
                    return Err(at(value.span().start, "write [[rule]], with two brackets".into()));
                }
                (other, _) => return Err(at(key.span().start, format!("unknown key '{other}'"))),
            };
            for table in tables {
                let start = table.span().start;
                let DeValue::Table(fields) = table.get_ref() else {
                    return Err(at(start, "a rule is a table".into()));
                };
                let named = rule(fields, line(text, start))
                    .map_err(|(offset, what)| at(offset.unwrap_or(start), what))?;
                let (app, name) = (named.rule.app, named.name.clone());
                let known = names.entry(app).or_insert_with(|| name.clone());
                if *known != name {
                    return Err(at(start, format!("AppID {app} is called '{known}' before, '{name}' here")));
                }
                let known = ids.entry(name.clone()).or_insert(app);
                if *known != app {
                    return Err(at(start, format!("'{name}' is AppID {known} before, {app} here")));
                }
                rules.push(named);
            }
        }
        // Several times the text; not to be held while the patterns are compiled.
        drop(document);
        let plain: Vec<Rule> = rules.iter().map(|named| named.rule.clone()).collect();
        let set = RuleSet::compile(&plain, limits).map_err(|error| RulesFileError {
            line: rules[error.index].line,
            what: format!("rule '{}': {}", rules[error.index].name, error.fault),
        })?;
        Ok(RulesFile { rules, set, names })
    }

    /// What an application is called.
    pub fn name(&self, app: AppId) -> Option<&str> {
        self.names.get(&app).map(String::as_str)
    }

    /// The applications and their names, by number.
    pub fn names(&self) -> impl Iterator<Item = (AppId, &str)> {
        self.names.iter().map(|(app, name)| (*app, name.as_str()))
    }
}

fn rule(fields: &DeTable<'_>, line: usize) -> Result<NamedRule, (Option<usize>, String)> {
    let (mut app, mut name, mut pattern) = (None, None, None);
    for (key, value) in fields {
        let place = Some(value.span().start);
        match key.get_ref().as_ref() {
            "app_id" => {
                let number = value.get_ref().as_integer();
                let number =
                    number.and_then(|number| u32::from_str_radix(number.as_str(), number.radix()).ok());
                app = Some(number.ok_or((place, "app_id is a number of 0 to 4294967295".to_owned()))?);
            }
            "name" => name = Some(string(value, "name")?),
            "pattern" => pattern = Some(string(value, "pattern")?),
            other => return Err((Some(key.span().start), format!("unknown key '{other}'"))),
        }
    }
    let missing = |key: &str| (None, format!("the rule has no {key}"));
    Ok(NamedRule {
        rule: Rule {
            app: AppId(app.ok_or_else(|| missing("app_id"))?),
            text: pattern.ok_or_else(|| missing("pattern"))?,
        },
        name: name.ok_or_else(|| missing("name"))?,
        line,
    })
}

fn string(value: &Spanned<DeValue<'_>>, key: &str) -> Result<String, (Option<usize>, String)> {
    match value.get_ref().as_str() {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err((Some(value.span().start), format!("{key} is a text, and not empty"))),
    }
}

fn line(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|octet| **octet == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file() {
        let text = "# home\n[[rule]]\napp_id = 7\nname = 'ssh'\npattern = '^SSH-2\\.0-'\n\n\
                    [[rule]]\napp_id = 0x08\nname = 'dns'\npattern = '(?#udp port=53)^..[\\x00\\x01]'\n";
        let file = RulesFile::parse(text, Limits::default()).expect("reads");
        assert_eq!(file.rules.len(), 2);
        assert_eq!(file.rules[1].rule.app, AppId(8));
        assert_eq!(file.name(AppId(7)), Some("ssh"));
        assert_eq!(file.names().count(), 2);
    }

    #[test]
    fn errors_name_the_line() {
        let cases = [
            ("x = 1\n", 1, "unknown key 'x'"),
            ("[rule]\nname = 'a'\n", 1, "two brackets"),
            ("\n[[rule]]\napp_id = 1\nname = 'a'\n", 2, "no pattern"),
            ("\n[[rule]]\napp_id = -1\nname = 'a'\npattern = 'a'\n", 3, "app_id is a number"),
            ("[[rule]]\napp_id = 1\nname = 'a'\npattern = 'a'\nport = 3\n", 5, "unknown key 'port'"),
            ("[[rule]]\napp_id = 1\nname = 'a'\npattern = 'a('\n", 1, "rule 'a': the pattern is invalid"),
            ("[[rule]]\napp_id = 1\nname = 'a'\npattern = 3\n", 4, "pattern is a text"),
            ("[[rule]]\napp_id = 1\nname = 'a\n", 3, ""),
            (
                "[[rule]]\napp_id = 1\nname = 'a'\npattern = 'a'\n[[rule]]\napp_id = 1\nname = 'b'\npattern = 'b'\n",
                5,
                "is called 'a' before",
            ),
        ];
        for (text, line, what) in cases {
            let error = RulesFile::parse(text, Limits::default()).expect_err(text);
            assert_eq!(error.line, line, "{error}");
            assert!(error.what.contains(what), "{error}");
        }
    }
}
