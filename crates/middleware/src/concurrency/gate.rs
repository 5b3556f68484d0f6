//! So many at once; the others wait in line, first come, first served, for a time.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use portcullis_core::meter::Gauge;
use tokio::{sync::oneshot, time::timeout};

/// What all gates of a rule count together.
#[derive(Debug, Default)]
pub struct Tally {
    /// Inside now.
    pub inside: Arc<Gauge>,
    /// In line now.
    pub waiting: Arc<Gauge>,
}

/// A gate.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<State>,
    tally: Arc<Tally>,
}

#[derive(Debug, Default)]
struct State {
    limit: usize,
    inside: usize,
    line: VecDeque<(u64, oneshot::Sender<()>)>,
    next: u64,
}

/// What a gate says to one who comes.
pub enum Entry {
    In(Permit),
    Wait(Waiting),
    /// The line is full.
    Full,
}

/// Inside. Leaves when it is dropped.
#[derive(Debug)]
pub struct Permit {
    gate: Arc<Gate>,
}

/// In line. Leaves it when it is dropped.
pub struct Waiting {
    gate: Arc<Gate>,
    number: u64,
    turn: oneshot::Receiver<()>,
    entered: bool,
}

impl Gate {
    pub fn new(tally: &Arc<Tally>) -> Gate {
        Gate { state: Mutex::default(), tally: tally.clone() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Comes, while so many may be inside and so many wait.
    pub fn enter(self: &Arc<Gate>, limit: usize, longest: usize) -> Entry {
        let mut state = self.state();
        state.limit = limit;
        state.admit(&self.tally);
        if state.inside < limit && state.line.is_empty() {
            state.inside += 1;
            self.tally.inside.add(1.0);
            return Entry::In(Permit { gate: self.clone() });
        }
        if state.line.len() >= longest {
            return Entry::Full;
        }
        let (told, turn) = oneshot::channel();
        let number = state.next;
        state.next += 1;
        state.line.push_back((number, told));
        self.tally.waiting.add(1.0);
        Entry::Wait(Waiting { gate: self.clone(), number, turn, entered: false })
    }

    /// How many are inside.
    pub fn inside(&self) -> usize {
        self.state().inside
    }

    fn leave(&self) {
        let mut state = self.state();
        state.inside = state.inside.saturating_sub(1);
        self.tally.inside.add(-1.0);
        state.admit(&self.tally);
    }
}

impl State {
    /// Lets in who is first in line, while there is room.
    fn admit(&mut self, tally: &Tally) {
        while self.inside < self.limit {
            let Some((_, told)) = self.line.pop_front() else { return };
            tally.waiting.add(-1.0);
            if told.send(()).is_ok() {
                self.inside += 1;
                tally.inside.add(1.0);
            }
        }
    }
}

impl Waiting {
    /// Waits for its turn, for so long at most.
    pub async fn turn(mut self, patience: Duration) -> Option<Permit> {
        let told = timeout(patience, &mut self.turn).await;
        self.entered = matches!(told, Ok(Ok(())));
        self.entered.then(|| Permit { gate: self.gate.clone() })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.entered {
            return;
        }
        let mut state = self.gate.state();
        match state.line.iter().position(|(number, _)| *number == self.number) {
            Some(at) => {
                drop(state.line.remove(at));
                self.gate.tally.waiting.add(-1.0);
            }
            // Its turn came just now: the next one's.
            None => {
                drop(state);
                self.gate.leave();
            }
        }
    }
}

impl Permit {
    /// How many are inside with it.
    pub fn inside(&self) -> usize {
        self.gate.inside()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(gate: &Arc<Gate>) -> Entry {
        gate.enter(2, 2)
    }

    fn inside(gate: &Arc<Gate>) -> Permit {
        match enter(gate) {
            Entry::In(permit) => permit,
            _ => panic!("not let in"),
        }
    }

    fn waiting(gate: &Arc<Gate>) -> Waiting {
        match enter(gate) {
            Entry::Wait(waiting) => waiting,
            _ => panic!("not in line"),
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn first_come_first_served_and_no_more_than_the_line_holds() {
        let tally = Arc::<Tally>::default();
        let gate = Arc::new(Gate::new(&tally));
        let (a, b) = (inside(&gate), inside(&gate));
        let (c, d) = (waiting(&gate), waiting(&gate));
        assert!(matches!(enter(&gate), Entry::Full));
        assert_eq!((tally.inside.get(), tally.waiting.get()), (2.0, 2.0));
        drop(a);
        // Whoever comes now stands behind.
        let e = waiting(&gate);
        let c = c.turn(LONG).await.expect("its turn");
        assert!(d.turn(Duration::from_millis(10)).await.is_none(), "nobody left");
        drop(b);
        let e = e.turn(LONG).await.expect("d has left the line");
        assert_eq!((gate.inside(), tally.waiting.get()), (2, 0.0));
        drop((c, e));
        assert_eq!((gate.inside(), tally.inside.get()), (0, 0.0));
    }

    #[tokio::test]
    async fn a_turn_that_nobody_takes_is_the_next_ones() {
        let gate = Arc::new(Gate::new(&Arc::default()));
        let (a, b) = (inside(&gate), inside(&gate));
        let (c, d) = (waiting(&gate), waiting(&gate));
        drop(a);
        // Told, but gone before it could see that.
        drop(c);
        let d = d.turn(LONG).await.expect("its turn");
        drop((b, d));
        assert_eq!(gate.inside(), 0);
    }

    #[tokio::test]
    async fn a_higher_limit_lets_in_those_who_wait() {
        let gate = Arc::new(Gate::new(&Arc::default()));
        let _held = [inside(&gate), inside(&gate)];
        let waiting = waiting(&gate);
        let Entry::In(_more) = gate.enter(4, 2) else { panic!("there is room for two more") };
        let _turn = waiting.turn(LONG).await.expect("its turn");
        assert_eq!(gate.inside(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_lost_whatever_happens() {
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let tally = Arc::<Tally>::default();
            let gate = Arc::new(Gate::new(&tally));
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..300 {
                let (gate, tally) = (gate.clone(), tally.clone());
                let (arrive, work, patience) = (random.u64(0..500), random.u64(0..30), random.u64(1..50));
                let give_up = random.u64(1..60);
                tasks.spawn(async move {
                    tokio::time::sleep(Duration::from_millis(arrive)).await;
                    let pass = async {
                        let permit = match gate.enter(3, 10) {
                            Entry::In(permit) => Some(permit),
                            Entry::Wait(waiting) => waiting.turn(Duration::from_millis(patience)).await,
                            Entry::Full => None,
                        };
                        assert!(tally.inside.get() <= 3.0);
                        if permit.is_some() {
                            tokio::time::sleep(Duration::from_millis(work)).await;
                        }
                    };
                    // A client that leaves drops everything where it stands.
                    let _ = timeout(Duration::from_millis(give_up), pass).await;
                });
            }
            while let Some(ended) = tasks.join_next().await {
                ended.unwrap();
            }
            assert_eq!((gate.inside(), gate.state().line.len()), (0, 0), "seed {seed}");
            assert_eq!((tally.inside.get(), tally.waiting.get()), (0.0, 0.0), "seed {seed}");
        }
    }
}
