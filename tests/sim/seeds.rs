//! Many seeds, and what to do with one that fails.

use std::{
    any::Any,
    env,
    fmt::Debug,
    io::{self, Write as _},
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use super::Trace;

/// Runs of a failing seed that are spent on making its plan smaller.
const SHRINK: usize = 400;
/// Lines of the trace that a failure prints.
const LINES: usize = 120;

/// A world with a plan.
pub trait Scenario {
    /// Something that happens, a fault included.
    type Step: Clone + Debug;

    /// What happens under a seed.
    fn plan(&self, seed: u64) -> Vec<Self::Step>;

    /// Lets it happen and judges. Without any of the steps the world must still make sense: a failing plan is made
    /// smaller by leaving steps out.
    fn run(&self, seed: u64, steps: &[Self::Step], trace: &Trace) -> Result<(), String>;
}

/// Runs a scenario under `HAILPOST_SEEDS` seeds, or `default` of them, or only under `HAILPOST_SEED`. Panics at the
/// first failure, having printed the fewest steps that still fail, and how to see it again. `HAILPOST_COSTS` prints what
/// each seed cost.
pub fn check(name: &str, default: u64, scenario: &impl Scenario) {
    let seeds = match number("HAILPOST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("HAILPOST_SEEDS").unwrap_or(default),
    };
    let costs = Costs::default();
    let costs = seeds.fold(costs, |mut costs, seed| {
        let begun = Instant::now();
        if let Err(problem) = attempt(scenario, seed, &scenario.plan(seed), &Trace::off()) {
            explain(name, scenario, seed, &problem);
        }
        costs.add(seed, begun.elapsed());
        costs
    });
    costs.tell(name);
}

/// The first seed within `limit` under which a scenario with a planted defect fails, and how.
pub fn caught(name: &str, limit: u64, scenario: &impl Scenario) -> (u64, String) {
    for seed in 0..limit {
        if let Err(problem) = attempt(scenario, seed, &scenario.plan(seed), &Trace::off()) {
            println!("{name}: caught by seed {seed}: {problem}");
            return (seed, problem);
        }
    }
    panic!("{name}: no seed below {limit} notices the defect");
}

/// What seeds cost, in time.
#[derive(Default)]
struct Costs {
    count: u32,
    all: Duration,
    dearest: (Duration, u64),
}

impl Costs {
    fn add(&mut self, seed: u64, cost: Duration) {
        self.count += 1;
        self.all += cost;
        self.dearest = self.dearest.max((cost, seed));
        if env::var_os("HAILPOST_COSTS").is_some() {
            println!("seed {seed}: {:.2} ms", millis(cost));
        }
    }

    /// One line that is seen even when the test passes.
    fn tell(&self, name: &str) {
        let (dearest, seed) = self.dearest;
        let (count, seconds) = (self.count, self.all.as_secs_f64());
        let mean = millis(self.all / count.max(1));
        let line = format!(
            "{name}: {count} seeds in {seconds:.1} s, {mean:.2} ms each, the dearest {:.2} ms (seed {seed})",
            millis(dearest)
        );
        let _ = writeln!(io::stdout(), "{line}");
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn explain<S: Scenario>(name: &str, scenario: &S, seed: u64, problem: &str) -> ! {
    println!("{name}: seed {seed} fails: {problem}");
    let mut budget = SHRINK;
    let steps = shrink(scenario.plan(seed), |steps| {
        budget = budget.saturating_sub(1);
        budget > 0 && attempt(scenario, seed, steps, &Trace::off()).is_err()
    });
    let trace = Trace::last(number("HAILPOST_TRACE").map_or(LINES, |lines| lines as usize));
    let problem = attempt(scenario, seed, &steps, &trace).err().unwrap_or_default();
    println!("the fewest steps that fail ({}):", steps.len());
    steps.iter().for_each(|step| println!("  {step:?}"));
    println!("the end of it:\n{trace}  {problem}");
    println!("reproduce: HAILPOST_SEED={seed} cargo test --test simulation {name} -- --nocapture");
    panic!("{name}: seed {seed} fails: {problem}");
}

fn attempt<S: Scenario>(scenario: &S, seed: u64, steps: &[S::Step], trace: &Trace) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| scenario.run(seed, steps, trace)))
        .unwrap_or_else(|panic| Err(format!("panic: {}", panic_text(&*panic))))
}

/// Leaves out ever smaller pieces as long as what is left still fails.
fn shrink<T: Clone>(mut items: Vec<T>, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut size = items.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        let mut shrunk = false;
        while at < items.len() {
            let end = (at + size).min(items.len());
            let rest = [&items[..at], &items[end..]].concat();
            if fails(&rest) {
                items = rest;
                shrunk = true;
            } else {
                at = end;
            }
        }
        size = if size == 1 && shrunk { 1 } else { size / 2 };
    }
    items
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("without a text").to_owned()
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}
