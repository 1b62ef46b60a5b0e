//! What people call applications.

use std::collections::HashMap;

use hailpost::{
    net::HOME_RULES,
    recognize::{Limits, RulesFile},
};

use crate::failure::Failure;

/// By number, as the rules that ship name them.
pub fn home() -> Result<HashMap<u64, String>, Failure> {
    let rules = RulesFile::parse(HOME_RULES, Limits::default())
        .map_err(|error| Failure::new(format!("the rules that ship: {error}")))?;
    Ok(of(&rules))
}

/// By number, as a rules file names them.
pub fn of(rules: &RulesFile) -> HashMap<u64, String> {
    rules.names().map(|(app, name)| (app.0.into(), name.to_owned())).collect()
}
