//! Any text as a rules file and as a pattern.
#![no_main]

use hailpost::recognize::{Limits, Rule, RuleSet, RulesFile};
use hailpost::wire::AppId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let limits = Limits { memory: 1 << 20, ..Limits::default() };
    let _ = RulesFile::parse(text, limits);
    let _ = RuleSet::compile(&[Rule { app: AppId(1), text: text.to_owned() }], limits);
});
