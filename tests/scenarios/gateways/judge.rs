//! What must hold once the trouble is over.

use std::collections::{BTreeMap, BTreeSet};

use hailpost::{
    gateway::{GatewayState, ResultKey},
    wire::AppId,
};

use super::{backend, ledger::words, plan::GROUPS, run::Run};

/// Whether all is well; if not, what is not.
pub fn judge(run: &Run) -> Result<(), String> {
    let node = run.world.node(run.hub).ok_or("the back end is down")?;
    let backend = backend(node);
    if backend.pending() > 0 {
        return Err(format!("{} reports still wait for the disk", backend.pending()));
    }
    run.ledger.check_backend(backend, &run.setup)?;
    run.ledger.check_store(&run.memory, &run.setup)?;
    GROUPS.iter().try_for_each(|group| verdicts(run, group, &backend.results(group).collect()))?;
    (0..run.gateways.len())
        .try_for_each(|at| gateway(run, at).map_err(|problem| format!("gateway {at}: {problem}")))
}

fn gateway(run: &Run, at: usize) -> Result<(), String> {
    let (gateway, member) = (run.gateway_at(at), &run.setup.members[at]);
    if run.ledger.is_barred(at) {
        return match gateway.state() {
            GatewayState::Active => Err("active, and barred".to_owned()),
            _ => Ok(()),
        };
    }
    if gateway.state() != GatewayState::Active {
        return Err(format!("{:?}, not active", gateway.state()));
    }
    if gateway.pending() > 0 {
        return Err(format!("{} reports wait for their acknowledgement", gateway.pending()));
    }
    let backend = backend(run.world.node(run.hub).expect("it is up"));
    let name = GROUPS[member.group];
    let life = run.world.life(run.gateways[at]);

    run.ledger.check_ends(at, life)?;

    let published: BTreeMap<ResultKey, AppId> = backend.results(name).collect();
    let held: BTreeMap<ResultKey, AppId> = gateway.results().collect();
    for (key, app) in &published {
        if held.get(key) != Some(app) {
            return Err(format!("{key:?} is {app}, it holds {:?}", held.get(key)));
        }
    }
    for (key, app) in held.iter().filter(|(key, _)| !published.contains_key(key)) {
        if run.setup.group_of(key) != Some(member.group) {
            return Err(format!("{key:?} is another group's"));
        }
        // What it found out itself it may know; a plain peer cannot be told that something is over.
        if !member.is_plain && !run.ledger.found(at, life, key, *app) {
            return Err(format!("it holds {app} for {key:?}, which nobody publishes"));
        }
    }

    let wanted = in_order(backend.rules(name));
    let rules = in_order(gateway.rules());
    let stray = rules.iter().any(|(_, pattern)| {
        let other = GROUPS[1 - member.group];
        pattern.starts_with(other.as_bytes())
    });
    if stray {
        return Err("it has a rule of another group".to_owned());
    }
    let fits = match member.is_plain {
        true => wanted.iter().all(|rule| rules.contains(rule)),
        false => wanted == rules,
    };
    if !fits {
        return Err(format!("the rules are {}, it holds {}", text(&wanted), text(&rules)));
    }
    for app in 1..=3 {
        let wanted = backend.parameters(name, AppId(app)).map(|words| words[0]);
        let held = run.ledger.parameters(at, app);
        if wanted.is_some() && held != wanted {
            return Err(format!("the parameters of {app} are {wanted:?}, it was told {held:?}"));
        }
    }
    Ok(())
}

/// What is published follows from the words in the store.
fn verdicts(run: &Run, group: &str, published: &BTreeMap<ResultKey, AppId>) -> Result<(), String> {
    let trusted: Vec<&[u8; 32]> = run
        .setup
        .members
        .iter()
        .filter(|member| member.trusted)
        .filter_map(|member| member.key.as_ref().map(|key| &key.0))
        .collect();
    let mut voices: BTreeMap<ResultKey, BTreeMap<AppId, usize>> = BTreeMap::new();
    for ((_, key, voter), app) in words(&run.memory).into_iter().filter(|((of, ..), _)| of == group) {
        let is_trusted = trusted.iter().any(|key| key[..] == voter[..]);
        let weight = if is_trusted { run.setup.agreement } else { 1 };
        *voices.entry(key).or_default().entry(app).or_default() += weight;
    }
    let keys: BTreeSet<&ResultKey> = voices.keys().chain(published.keys()).collect();
    for key in keys {
        let counts = voices.get(key).into_iter().flatten();
        let agreed: Vec<(&AppId, &usize)> =
            counts.filter(|(_, count)| **count >= run.setup.agreement).collect();
        let most = agreed.iter().map(|(_, count)| **count).max();
        let told = published.get(key);
        let fits = match told {
            Some(told) => agreed.iter().any(|(app, count)| *app == told && Some(**count) == most),
            None => agreed.is_empty(),
        };
        if !fits {
            return Err(format!("the words on {key:?} are {agreed:?}, and {told:?} is published"));
        }
    }
    Ok(())
}

/// Without repetitions, where each first appeared.
fn in_order<'a>(rules: impl Iterator<Item = (AppId, &'a [u8])>) -> Vec<(AppId, Vec<u8>)> {
    let mut seen = BTreeSet::new();
    rules.map(|(app, pattern)| (app, pattern.to_vec())).filter(|rule| seen.insert(rule.clone())).collect()
}

fn text(rules: &[(AppId, Vec<u8>)]) -> String {
    let rules = rules.iter().map(|(app, pattern)| format!("{app}:{}", String::from_utf8_lossy(pattern)));
    format!("[{}]", rules.collect::<Vec<_>>().join(" "))
}
