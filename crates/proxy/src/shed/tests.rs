use super::*;

const LATE: Duration = Duration::from_millis(100);

fn shedding(memory: MemoryLimit, meters: &Meters) -> Shedding {
    let retry_after = Duration::from_secs(5);
    Shedding::new(&model::Shedding { memory, lateness: Some(LATE), retry_after }, 2, meters)
}

#[test]
fn a_gate_is_open_until_its_worker_is_late() {
    let (gate, other) = (Gate::default(), Gate::default());
    let meters = Meters::default();
    let shedding = shedding(MemoryLimit::Unlimited, &meters);
    let mut now = Instant::now();
    gate.tick(Some(&shedding), 0, Duration::ZERO, now);
    assert!(!gate.is_shut());
    for _ in 0..40 {
        now += LATE * 5;
        gate.tick(Some(&shedding), 0, LATE * 5, now);
        other.tick(Some(&shedding), 1, Duration::ZERO, now);
    }
    assert!(gate.is_shut() && !other.is_shut(), "each worker by itself");
    assert_eq!(gate.refuses(Importance::Background, 0.99), Some(Signal::Lateness));
    assert!(shedding.meters.level(Signal::Lateness).get() > 0.95, "that of the worst");
    assert!(gate.state().told.is_some() && other.state().told.is_none());
    // Without the settings, nothing is refused.
    gate.tick(None, 0, LATE * 5, now);
    assert!(!gate.is_shut());
}

#[test]
fn memory_shuts_all_gates() {
    let meters = Meters::default();
    let shedding = shedding(MemoryLimit::Bytes(1), &meters);
    for worker in 0..2 {
        let gate = Gate::default();
        gate.tick(Some(&shedding), worker, Duration::ZERO, Instant::now());
        assert_eq!(gate.refuses(Importance::Critical, 0.99), Some(Signal::Memory));
    }
}

#[test]
fn the_least_important_goes_first() {
    let gate = Gate::default();
    gate.number.store(LEVELS / 6, Relaxed);
    assert_eq!(gate.refuses(Importance::Background, 0.4), Some(Signal::Lateness));
    assert_eq!(gate.refuses(Importance::Background, 0.6), None);
    assert_eq!(gate.refuses(Importance::Normal, 0.0), None);
    gate.number.store((LEVELS / 2) | OF_MEMORY, Relaxed);
    assert_eq!(gate.refuses(Importance::Normal, 0.4), Some(Signal::Memory));
    assert_eq!(gate.refuses(Importance::Critical, 0.0), None);
}

/// The loop has so much to do that the tick is still in line: requests see that, and are refused before it comes.
#[test]
fn requests_do_not_wait_for_a_tick_that_is_late() {
    let (gate, meters) = (Gate::default(), Meters::default());
    let shedding = shedding(MemoryLimit::Unlimited, &meters);
    let begin = Instant::now();
    gate.tick(Some(&shedding), 0, Duration::ZERO, begin);
    let come = |millis: u64, importance| {
        gate.come(&shedding, 0, importance, begin + Duration::from_millis(millis));
        gate.is_shut()
    };
    assert!(!come(10, Importance::Background) && !come(100, Importance::Normal));
    assert!(!come(140, Importance::Normal), "not for long enough");
    assert!(come(300, Importance::Normal));
    let level = gate.number.load(Relaxed);
    assert!(come(301, Importance::Critical));
    assert_eq!(gate.number.load(Relaxed), level, "not at each request");
    assert!(come(1000, Importance::Critical));
    assert!(gate.number.load(Relaxed) > level, "the line is still longer");
    assert_eq!(gate.refuses(Importance::Background, 0.99), Some(Signal::Lateness));
    gate.tick(None, 0, Duration::ZERO, begin);
    assert_eq!((gate.is_shut(), gate.look.load(Relaxed)), (false, u64::MAX));
}

#[test]
fn the_log_hears_of_an_end_once_it_is_one() {
    let mut state = State::default();
    let seconds = Duration::from_secs;
    state.say(0, Some(Signal::Memory), seconds(1));
    state.say(0, None, seconds(2));
    assert!(state.told.is_some());
    state.say(0, Some(Signal::Memory), seconds(10));
    state.say(0, None, seconds(19));
    assert!(state.told.is_some());
    state.say(0, None, seconds(21));
    assert!(state.told.is_none());
}
