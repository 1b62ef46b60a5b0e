//! Statistical identification as a whole: gateways that report, a backend that trains, and what hostile ones can do.
#![cfg(feature = "recognize")]

use hailpost::{
    recognize::{
        AppId,
        model::{
            FeatureSet, Header, History, HistoryConfig, InstallError, Model, ModelSet, ModelSetConfig,
            OfferError, Origin, Outcome, Reason, Refusal, ReportError, SampleRow, Source, Trainer,
            TrainerConfig, report_to_words,
        },
    },
    rng::{Entropy, Seeded},
    time::Time,
};
use std::time::Duration;

const WIDTH: usize = 40;
const SET: FeatureSet = FeatureSet::new(1, WIDTH).expect("in range");
/// Row passes that no training in these tests needs.
const ENOUGH: usize = 10_000_000;

/// The traffic.
struct Random(Seeded);

impl Random {
    fn new(seed: u64) -> Random {
        Random(Seeded::new(seed))
    }

    fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn signed(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// A flow of an application: its own centre on each feature, some noise, a few features that say nothing.
    fn flow(&mut self, app: u32) -> Vec<f32> {
        let mut centres = Random::new(u64::from(app) * 7919);
        (0..WIDTH)
            .map(|i| match i % 5 {
                0 => self.signed(),
                _ => 0.6 * centres.signed() + 0.2 * self.signed(),
            })
            .collect()
    }
}

fn config() -> TrainerConfig {
    TrainerConfig { seed: 42, reports_per_source: 100_000, ..TrainerConfig::default() }
}

fn at(seconds: u64) -> Time {
    Time::from_micros(seconds * 1_000_000)
}

fn report(trainer: &mut Trainer, app: u32, source: u64, features: &[f32]) -> Result<(), ReportError> {
    let words = report_to_words(SET, 0, features).expect("a vector of the set");
    trainer.report(at(0), AppId(app), Source(source), &words).map(|_| ())
}

/// `per` flows of each of `apps` from each of `sources`.
fn feed(trainer: &mut Trainer, random: &mut Random, apps: &[u32], sources: &[u64], per: usize) {
    for _ in 0..per {
        for &app in apps {
            for &source in sources {
                let flow = random.flow(app);
                report(trainer, app, source, &flow).expect("within the bounds");
            }
        }
    }
}

/// Everything that is due at `now`.
fn work(trainer: &mut Trainer, now: Time) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    while trainer.deadline().is_some_and(|due| due <= now) {
        outcomes.extend(trainer.step(now, ENOUGH));
    }
    outcomes
}

fn accepted(outcomes: &[Outcome], wanted: u32) -> bool {
    outcomes.iter().any(|o| matches!(o, Outcome::Accepted { app, .. } if *app == AppId(wanted)))
}

fn models_of(trainer: &Trainer) -> ModelSet {
    let mut models = ModelSet::new(SET, ModelSetConfig::default());
    for (app, ..) in trainer.models() {
        let words = trainer.parameters(app).expect("it is in use");
        assert!(models.install(app, Model::from_words(&words, SET).expect("own words")));
    }
    models
}

/// Of 200 flows of an application: how many are decided right, and how many wrong.
fn judge(models: &ModelSet, random: &mut Random, app: u32) -> (usize, usize) {
    let (mut right, mut wrong) = (0, 0);
    for _ in 0..200 {
        match models.classify(&random.flow(app)) {
            Some((AppId(a), _)) if a == app => right += 1,
            Some(_) => wrong += 1,
            None => {}
        }
    }
    (right, wrong)
}

const APPS: [u32; 6] = [1, 2, 3, 4, 5, 6];
const SOURCES: [u64; 5] = [11, 12, 13, 14, 15];

fn trained() -> (Trainer, Random) {
    let (mut trainer, mut random) = (Trainer::new(SET, config()), Random::new(1));
    feed(&mut trainer, &mut random, &APPS, &SOURCES, 12);
    let outcomes = work(&mut trainer, at(0));
    assert_eq!(outcomes.len(), APPS.len());
    assert!(APPS.iter().all(|app| accepted(&outcomes, *app)), "{outcomes:?}");
    (trainer, random)
}

#[test]
fn what_can_be_told_apart_is_and_what_is_foreign_is_nobodys() {
    let (trainer, mut random) = trained();
    let models = models_of(&trainer);
    for app in APPS {
        let (right, wrong) = judge(&models, &mut random, app);
        assert!(right >= 180 && wrong == 0, "app {app}: {right} of 200 right, {wrong} wrong");
    }
    for foreign in 100..120 {
        let (_, wrong) = judge(&models, &mut random, foreign);
        assert!(wrong <= 4, "{wrong} of 200 flows of foreign application {foreign} claimed");
    }
}

#[test]
fn the_same_reports_give_the_same_models_in_steps_of_any_size() {
    let words = |seed: u64, budget: usize| {
        let mut trainer = Trainer::new(SET, TrainerConfig { seed, ..config() });
        feed(&mut trainer, &mut Random::new(1), &[1, 2], &SOURCES[..2], 30);
        let (mut steps, mut outcomes) = (0, 0);
        while outcomes < 2 {
            outcomes += usize::from(trainer.step(at(0), budget).is_some());
            steps += 1;
        }
        assert_eq!(trainer.deadline(), None);
        (trainer.parameters(AppId(1)).expect("accepted"), steps)
    };
    let (whole, steps) = words(42, ENOUGH);
    assert_eq!(steps, 2);
    let (pieces, steps) = words(42, 500);
    assert_eq!(whole, pieces);
    assert!(steps > 100, "a budget of 500 took only {steps} steps");
    assert_ne!(whole, words(43, ENOUGH).0);
}

/// A hundred times as many samples as an honest gateway sends.
fn attack(
    trainer: &mut Trainer,
    random: &mut Random,
    mut sample: impl FnMut(&mut Random) -> (u32, Vec<f32>),
) {
    for _ in 0..1200 {
        let (app, features) = sample(random);
        match report(trainer, app, 666, &features) {
            Ok(()) | Err(ReportError::Apps | ReportError::AppsOfSource) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Application 1 is still recognised and 2 is still not taken for it, nor are the flows of 50.
fn unharmed(trainer: &Trainer, random: &mut Random) {
    let models = models_of(trainer);
    for app in [1, 2] {
        let (right, wrong) = judge(&models, random, app);
        println!("app {app}: {right} of 200 right, {wrong} wrong");
        assert!(right >= 170 && wrong <= 2, "app {app}: {right} of 200 right, {wrong} wrong");
    }
    let claimed = (0..200).filter(|_| models.classify(&random.flow(50)).is_some()).count();
    println!("claimed {claimed}");
    assert!(claimed <= 4, "{claimed} of 200 flows that one gateway vouched for are claimed");
}

#[test]
fn one_hostile_gateway_cannot_flip_an_application() {
    type Attack = fn(&mut Random) -> (u32, Vec<f32>);
    let attacks: [(&str, Attack); 4] = [
        ("the flows of 2 as 1", |r| (1, r.flow(2))),
        ("the flows of 1 as 2", |r| (2, r.flow(1))),
        ("the flows of 1 as those of a hundred others", |r| (1000 + r.next() as u32 % 100, r.flow(1))),
        ("the flows of 50 as 1", |r| (1, r.flow(50))),
    ];
    for (name, sample) in attacks {
        for honest in [3, 5] {
            println!("{name}, {honest} honest gateways");
            let (mut trainer, mut random) = (Trainer::new(SET, config()), Random::new(7));
            attack(&mut trainer, &mut random, sample);
            feed(&mut trainer, &mut random, &APPS, &SOURCES[..honest], 20);
            work(&mut trainer, at(0));
            unharmed(&trainer, &mut random);
            // Again on top of models that are in use.
            attack(&mut trainer, &mut random, sample);
            feed(&mut trainer, &mut random, &APPS, &SOURCES[..honest], 3);
            work(&mut trainer, at(100));
            trainer.train(AppId(1));
            trainer.train(AppId(2));
            work(&mut trainer, at(200));
            unharmed(&trainer, &mut random);
        }
    }
}

#[test]
fn one_of_two_gateways_can_stop_training_but_not_turn_it() {
    let (mut trainer, mut random) = (Trainer::new(SET, config()), Random::new(7));
    feed(&mut trainer, &mut random, &APPS, &SOURCES[..2], 30);
    work(&mut trainer, at(0));
    for app in [1, 2] {
        let words = trainer.parameters(AppId(app)).expect("trained");
        attack(&mut trainer, &mut random, |r| (3 - app, r.flow(app)));
        attack(&mut trainer, &mut random, |r| (2000 + r.next() as u32 % 50, r.flow(app)));
        trainer.train(AppId(app));
        work(&mut trainer, at(100));
        assert_eq!(trainer.parameters(AppId(app)), Some(words), "no change while two contradict each other");
    }
}

#[test]
fn a_worse_model_is_refused_and_a_tie_keeps_the_old() {
    let (mut trainer, _) = trained();
    let app = AppId(1);
    let good = trainer.parameters(app).expect("trained");
    let mut claims_nothing = good.clone();
    claims_nothing[6] = 0;
    let mut claims_all = good.clone();
    (claims_all[5], claims_all[6]) = (0, 5.0f32.to_bits());
    let other = trainer.parameters(AppId(2)).expect("trained");
    for words in [&claims_nothing, &claims_all, &other, &good] {
        trainer.offer(app, words).expect("they are a model");
        let outcome = trainer.step(at(1), ENOUGH).expect("it is judged at once");
        let Outcome::Refused { origin: Origin::Offered, why: Refusal::NoBetter { score, current }, .. } =
            outcome
        else {
            panic!("{outcome:?}");
        };
        assert!(score.cost >= current.cost && current.cost < 0.2, "{score}; {current}");
        assert_eq!(trainer.parameters(app).as_ref(), Some(&good));
    }
    // The same gate lets a better one in.
    trainer.install(app, &claims_nothing).expect("unjudged");
    trainer.offer(app, &good).expect("they are a model");
    let Some(Outcome::Accepted { revision: 3, score, before: Some(before), .. }) =
        trainer.step(at(1), ENOUGH)
    else {
        panic!("the good model was refused");
    };
    assert!(score.cost < 0.2 && before.cost == 1.0);
    let words = trainer.parameters(app).expect("it is in use");
    assert_eq!((Header::from_word(words[0]).revision, &words[1..]), (3, &good[1..]));
    assert_eq!(trainer.counters().refused, 4);
}

#[test]
fn a_first_model_must_be_good_enough() {
    let (mut trainer, mut random) = (Trainer::new(SET, config()), Random::new(3));
    // Two applications that nothing tells apart.
    for _ in 0..40 {
        for (app, source) in [(1, 1), (2, 1)] {
            let flow = random.flow(9);
            report(&mut trainer, app, source, &flow).expect("within the bounds");
        }
    }
    let outcomes = work(&mut trainer, at(0));
    assert!(matches!(outcomes[0], Outcome::Refused { why: Refusal::Poor { .. }, .. }), "{outcomes:?}");
    assert_eq!(trainer.models().count(), 0);
}

#[test]
fn another_trainer_gets_what_is_trained_on_and_not_what_is_held_out() {
    let (mut trainer, _) = trained();
    let samples = trainer.samples(AppId(1));
    let held_out = trainer.sample_count() - samples.len();
    assert!((50..130).contains(&held_out), "{held_out} of 360 held out");
    for app in APPS {
        let weight: f32 = samples.iter().filter(|s| s.app == AppId(app)).map(|s| s.weight).sum();
        assert!((weight - 1.0).abs() < 1e-3);
    }
    let words = trainer.parameters(AppId(1)).expect("trained");
    assert_eq!(trainer.offer(AppId(99), &words), Err(OfferError::NoSamples));
    assert!(matches!(trainer.offer(AppId(1), &words[1..]), Err(OfferError::Words(_))));
    assert_eq!(trainer.offer(AppId(1), &words), Ok(()));
    assert_eq!(trainer.offer(AppId(1), &words), Err(OfferError::Pending));
    assert_eq!(trainer.step(at(0), 1), None, "under way");
    assert_eq!(trainer.offer(AppId(1), &words), Err(OfferError::Pending));
}

#[test]
fn versions_are_kept_to_go_back() {
    let (mut trainer, _) = trained();
    let app = AppId(1);
    let mut words = trainer.parameters(app).expect("trained");
    for threshold in 0..10 {
        words[5] = (0.5 + threshold as f32 / 100.0).to_bits();
        trainer.install(app, &words).expect("a model");
    }
    let mut back = Vec::new();
    while let Some(revision) = trainer.roll_back(app) {
        back.push(revision);
    }
    assert_eq!(back, [10, 9, 8, 7], "four before the one in use");
    assert!(trainer.is_held(app));
    assert_eq!(trainer.roll_back(AppId(77)), None);
}

#[test]
fn an_application_on_hold_is_trained_only_when_asked() {
    let (mut trainer, mut random) = trained();
    assert!(trainer.hold(AppId(1), true));
    feed(&mut trainer, &mut random, &[1], &SOURCES, 10);
    assert_eq!(trainer.deadline(), None);
    assert!(trainer.train(AppId(1)));
    assert_eq!(work(&mut trainer, at(0)).len(), 1);
    assert!(!trainer.train(AppId(99)) && !trainer.hold(AppId(99), true));
}

#[test]
fn training_waits_for_new_samples_and_for_its_turn() {
    let (mut trainer, mut random) = trained();
    assert_eq!(trainer.deadline(), None, "nothing new");
    feed(&mut trainer, &mut random, &[3], &[11], 7);
    assert_eq!(trainer.deadline(), None, "seven are not enough");
    feed(&mut trainer, &mut random, &[3], &[11], 1);
    assert_eq!(trainer.deadline(), Some(at(60)), "a minute after the last");
    assert_eq!(trainer.step(at(59), ENOUGH), None);
    assert_eq!(work(&mut trainer, at(60)).len(), 1);
    feed(&mut trainer, &mut random, &[7], &[11, 12], 4);
    assert_eq!(work(&mut trainer, at(200)).len(), 7, "a new AppID, and all those it must be told from");
}

#[test]
fn a_restart_loses_nothing() {
    let (mut before, mut random) = (Trainer::new(SET, config()), Random::new(1));
    let mut rows: std::collections::BTreeMap<u64, Vec<u8>> = std::collections::BTreeMap::new();
    let mut send =
        |trainer: &mut Trainer, rows: &mut std::collections::BTreeMap<u64, Vec<u8>>, per: usize| {
            for _ in 0..per {
                for app in APPS {
                    let words = report_to_words(SET, 5, &random.flow(app)).expect("a vector");
                    let source = Source(SOURCES[random.next() as usize % 5]);
                    let kept = trainer.report(at(0), AppId(app), source, &words).expect("within the bounds");
                    assert_eq!(kept.revision, 5);
                    rows.insert(kept.row.serial, kept.row.encode(SET));
                    kept.dropped.map(|serial| rows.remove(&serial).expect("it was stored"));
                }
            }
        };
    send(&mut before, &mut rows, 80);
    work(&mut before, at(0));
    send(&mut before, &mut rows, 400);
    assert_eq!(rows.len(), before.sample_count());
    let mut after = Trainer::new(SET, config());
    for (app, ..) in before.models() {
        let row = before.models_row(app).expect("it has models");
        assert_eq!(after.restore_models(&row), Ok(app));
        assert_eq!(after.models_row(app), Some(row));
    }
    for (serial, row) in &rows {
        let row = SampleRow::decode(*serial, row, SET).expect("own row");
        assert_eq!(after.restore_sample(&row), Ok(None));
    }
    for app in APPS {
        assert_eq!(before.samples(AppId(app)), after.samples(AppId(app)));
    }
    // A backend that stores the words as they came has the same.
    let mut from_words = Trainer::new(SET, config());
    for (serial, row) in &rows {
        let row = SampleRow::decode(*serial, row, SET).expect("own row");
        let words = report_to_words(SET, 0, &row.features).expect("a vector");
        assert_eq!(from_words.restore_report(row.app, row.source, &words), Ok(()));
    }
    assert!(APPS.iter().all(|app| from_words.samples(AppId(*app)) == after.samples(AppId(*app))));
    let mut then = [before, after].map(|mut trainer| {
        let app = AppId(1);
        assert!(trainer.train(app));
        let outcome = trainer.step(at(0), ENOUGH);
        (outcome, trainer.parameters(app))
    });
    let [a, b] = &mut then;
    assert_eq!(a, b);
}

#[test]
fn every_bound_has_a_name_and_a_counter() {
    let tight = TrainerConfig {
        max_apps: 3,
        apps_per_source: 2,
        per_app_and_source: 2,
        per_app: 3,
        max_samples: 6,
        reports_per_source: 10,
        max_sources: 4,
        ..config()
    };
    let mut trainer = Trainer::new(SET, tight);
    let mut random = Random::new(2);
    let mut send = |trainer: &mut Trainer, now: u64, app: u32, source: u64| {
        let words = report_to_words(SET, 0, &random.flow(app)).expect("a vector");
        trainer.report(at(now), AppId(app), Source(source), &words)
    };
    for _ in 0..8 {
        send(&mut trainer, 0, 1, 1).expect("kept");
    }
    assert_eq!(trainer.sample_count(), 2);
    send(&mut trainer, 0, 2, 1).expect("kept");
    assert_eq!(send(&mut trainer, 0, 3, 1), Err(ReportError::AppsOfSource));
    assert_eq!(send(&mut trainer, 0, 1, 1), Err(ReportError::Rate));
    send(&mut trainer, 0, 3, 2).expect("kept");
    assert_eq!(send(&mut trainer, 0, 4, 3), Err(ReportError::Apps));
    send(&mut trainer, 0, 1, 4).expect("kept");
    assert_eq!(send(&mut trainer, 0, 1, 5), Err(ReportError::Sources));
    assert_eq!(send(&mut trainer, 1, 1, 5), Err(ReportError::Sources));
    send(&mut trainer, 600, 1, 5).expect("the others' interval is over");
    for i in 0..40 {
        let _ = send(&mut trainer, 2000 + i * 100, 1 + i as u32 % 3, 6 + i % 4);
        assert!(trainer.sample_count() <= 6);
    }
    let nonsense = trainer.report(at(9000), AppId(1), Source(1), &[0x0001_0000; 3]);
    assert!(matches!(nonsense, Err(ReportError::Features(_))));
    let counters = trainer.counters();
    assert_eq!((counters.throttled, counters.malformed), (3, 1));
    assert!(counters.overfull >= 2 && counters.dropped > 20, "{counters:?}");
    assert_eq!(
        trainer.forget(Source(1)).len() + trainer.sample_count(),
        (counters.kept - counters.dropped) as usize
    );

    let (good, _) = trained();
    let words = good.parameters(AppId(1)).expect("trained");
    for app in 0..3 {
        assert_eq!(trainer.install(AppId(app), &words), Ok(1));
    }
    assert_eq!(trainer.install(AppId(3), &words), Err(InstallError::Full));
    assert!(trainer.restore_models(&good.models_row(AppId(4)).expect("trained")).is_err());
}

#[test]
fn hostile_words_are_counted_and_change_nothing() {
    let (mut trainer, mut random) = trained();
    let before = trainer.sample_count();
    let good = report_to_words(SET, 0, &random.flow(1)).expect("a vector");
    let mut refused = 0;
    for i in 0..2000 {
        let mut words = good.clone();
        let place = random.next() as usize % words.len();
        match i % 4 {
            0 => words[place] = [0x7f80_0000, 0xff80_0000, 0x7fc0_0000, 0x7f7f_ffff][i / 4 % 4],
            1 => words.truncate(place),
            2 => words.push(0),
            _ => words = vec![random.next() as u32; random.next() as usize % 300],
        }
        refused += u64::from(trainer.report(at(0), AppId(1), Source(11), &words).is_err());
    }
    assert_eq!((refused, trainer.counters().malformed), (2000, 2000));
    assert_eq!(trainer.sample_count(), before);
}

#[test]
fn a_flow_that_drifted_is_reported_learnt_and_recognised() {
    let (mut trainer, mut random) = trained();
    let drifted = |random: &mut Random| -> Vec<f32> {
        // The application changed half of what it did.
        let (old, new) = (random.flow(1), random.flow(31));
        (0..WIDTH).map(|i| if i % 2 == 0 { old[i] } else { new[i] }).collect()
    };
    let models = models_of(&trainer);
    let known = (0..200).filter(|_| models.classify(&drifted(&mut random)).is_some()).count();
    assert!(known <= 10, "{known} of 200 are recognised without learning");

    let mut gateways: Vec<History> =
        SOURCES.iter().map(|_| History::new(SET, HistoryConfig::default())).collect();
    let mut reports = 0;
    for (history, source) in gateways.iter_mut().zip(SOURCES) {
        for _ in 0..60 {
            history.observe(at(0), AppId(1), &random.flow(1)).expect("a vector");
        }
        let mut now = at(700);
        for _ in 0..40 {
            let flow = drifted(&mut random);
            let seen = history.observe(now, AppId(1), &flow).expect("a vector");
            if seen.report == Some(Reason::Drift) {
                assert!(seen.drift > 2.0);
                reports += 1;
                report(&mut trainer, 1, source, &flow).expect("within the bounds");
            }
            now += Duration::from_secs(60);
        }
    }
    assert!((10..=160).contains(&reports), "{reports} of 200 flows reported");
    let outcomes = work(&mut trainer, at(1000));
    assert!(accepted(&outcomes, 1), "{outcomes:?}");
    let models = models_of(&trainer);
    let known = (0..200)
        .filter(|_| models.classify(&drifted(&mut random)).is_some_and(|(app, _)| app == AppId(1)))
        .count();
    assert!(known >= 150, "{known} of 200 are recognised after it, from {reports} reports");
    assert!(judge(&models, &mut random, 1).0 >= 150, "the old kind is not forgotten");
}
