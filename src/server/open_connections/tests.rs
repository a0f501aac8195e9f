use proptest::prelude::*;

use super::*;

fn connections(max: usize, max_per_client: Option<usize>) -> OpenConnections {
    OpenConnections::new(ConnectionCounts { max, max_per_client })
}

/// What happens to a port. The number chooses one of the connections with a place, or of the others.
#[derive(Debug, Clone, Copy)]
enum Step {
    Connect,
    Begin(usize),
    End(usize),
    Leave(usize),
    CallWithoutPlace(usize),
    GiveUp(usize),
    LeaveWithoutPlace(usize),
    GivePlaces,
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Connect),
        4 => (0..8_usize).prop_map(Step::Begin),
        4 => (0..8_usize).prop_map(Step::End),
        1 => (0..8_usize).prop_map(Step::Leave),
        2 => (0..8_usize).prop_map(Step::CallWithoutPlace),
        1 => (0..8_usize).prop_map(Step::GiveUp),
        1 => (0..8_usize).prop_map(Step::LeaveWithoutPlace),
        2 => Just(Step::GivePlaces),
    ]
}

/// A connection, as it should be.
struct Modelled {
    admitted: Admitted,
    call: Option<super::super::activity::OpenCall>,
    quiet_since: Instant,
    begun: bool,
    has_given_up: bool,
}

impl Modelled {
    fn displaceable_from(&self) -> Instant {
        self.quiet_since + if self.begun { BETWEEN_CALLS } else { Duration::ZERO }
    }
}

/// Two lists, in the order in which connections came.
#[derive(Default)]
struct Model {
    max: usize,
    with_place: Vec<Modelled>,
    without_place: Vec<Modelled>,
    cut: Vec<Modelled>,
}

impl Model {
    fn admitted(&mut self, admitted: Admitted) {
        let now = Instant::now();
        let has_place = self.make_room();
        assert_eq!(admitted.activity.had_place(), has_place);
        let (call, begun, has_given_up) = (None, false, false);
        let new = Modelled { admitted, call, quiet_since: now, begun, has_given_up };
        if has_place { self.with_place.push(new) } else { self.keep_without_place(new) }
    }

    fn make_room(&mut self) -> bool {
        if self.with_place.len() < self.max {
            return true;
        }
        let now = Instant::now();
        let idle = self.with_place.iter().enumerate();
        let idle = idle.filter(|(_, c)| c.call.is_none() && c.displaceable_from() <= now);
        let Some((at, _)) = idle.min_by_key(|(_, c)| (c.displaceable_from(), c.admitted.number)) else {
            return false;
        };
        let victim = self.with_place.remove(at);
        self.keep_without_place(victim);
        true
    }

    fn keep_without_place(&mut self, connection: Modelled) {
        self.without_place.push(connection);
        if self.without_place.len() > MAX_WITHOUT_PLACE {
            let quiet = self.without_place.iter().enumerate();
            let (at, _) = quiet.min_by_key(|(_, c)| (c.quiet_since, c.admitted.number)).unwrap();
            self.cut.push(self.without_place.remove(at));
        }
    }

    fn give_places(&mut self) {
        let now = Instant::now();
        let is_quiet = |c: &Modelled| !c.begun || now.duration_since(c.quiet_since) >= BETWEEN_CALLS;
        let mut waiting: Vec<_> = self.without_place.iter().map(|c| (is_quiet(c), c.admitted.number)).collect();
        waiting.sort_unstable();
        for (is_quiet, number) in waiting {
            let mut places = self.without_place.iter();
            let at = places.position(|c| c.admitted.number == number && !c.has_given_up);
            let Some(connection) = at.map(|at| self.without_place.remove(at)) else { continue };
            let has_room = if is_quiet { self.with_place.len() < self.max } else { self.make_room() };
            if has_room { self.with_place.push(connection) } else { self.without_place.push(connection) }
        }
    }
}

proptest! {
    /// Covers S16.
    #[test]
    fn the_connection_that_is_idle_for_the_longest_time_gives_its_place(
        steps in prop::collection::vec(a_step(), 1..120), max in 1..6_usize,
    ) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut port = connections(max, None);
            let mut model = Model { max, ..Model::default() };
            for step in steps {
                tokio::time::advance(2 * SEARCH_PAUSE).await;
                let now = Instant::now();
                match step {
                    Step::Connect => model.admitted(port.admit(None)),
                    Step::Begin(at) => {
                        if let Some(connection) = model.with_place.get_mut(at).filter(|c| c.call.is_none()) {
                            connection.call = connection.admitted.activity.begin();
                            prop_assert!(connection.call.is_some());
                            connection.begun = true;
                        }
                    }
                    Step::End(at) => {
                        if let Some(connection) = model.with_place.get_mut(at).filter(|c| c.call.is_some()) {
                            (connection.call, connection.quiet_since) = (None, now);
                        }
                    }
                    Step::Leave(at) if at < model.with_place.len() => {
                        port.ended(model.with_place.remove(at).admitted.number);
                        model.give_places();
                    }
                    Step::CallWithoutPlace(at) => {
                        if let Some(connection) = model.without_place.get_mut(at) {
                            prop_assert!(connection.admitted.activity.begin().is_none());
                            (connection.begun, connection.quiet_since) = (true, now);
                        }
                    }
                    Step::GiveUp(at) => {
                        if let Some(connection) = model.without_place.get_mut(at) {
                            let gives_up = connection.has_given_up
                                || now.duration_since(connection.quiet_since) >= BETWEEN_CALLS;
                            prop_assert_eq!(connection.admitted.activity.leave(BETWEEN_CALLS), gives_up);
                            connection.has_given_up = gives_up;
                        }
                    }
                    Step::LeaveWithoutPlace(at) if at < model.without_place.len() => {
                        port.ended(model.without_place.remove(at).admitted.number);
                        model.give_places();
                    }
                    Step::GivePlaces => {
                        port.give_places();
                        model.give_places();
                    }
                    Step::Leave(_) | Step::LeaveWithoutPlace(_) => {}
                }
                prop_assert_eq!(port.count(), model.with_place.len());
                let open = model.with_place.iter().chain(&model.without_place);
                prop_assert!(open.into_iter().all(|c| !c.admitted.cut.is_cancelled()), "cut although it may stay");
                prop_assert_eq!(port.without_place.len(), model.without_place.len());
                prop_assert_eq!(port.queue.len(), port.open.len());
                for cut in model.cut.drain(..) {
                    prop_assert!(cut.admitted.cut.is_cancelled());
                    let quietest = port.without_place.values().filter_map(|open| open.activity.idle_since()).min();
                    prop_assert!(Some(cut.quiet_since) <= quietest, "the one that is quiet for the longest time");
                }
            }
            Ok(())
        })?;
    }
}

/// Covers S16.
#[tokio::test(start_paused = true)]
async fn a_client_at_its_own_limit_displaces_its_own_connections_only() {
    let mut port = connections(100, Some(3));
    let (greedy, modest) = (Some([10, 0, 0, 1].into()), Some([10, 0, 0, 2].into()));
    let other = port.admit(modest);
    let mut admitted = Vec::new();
    for _ in 0..50 {
        tokio::time::advance(Duration::from_millis(1)).await;
        admitted.push(port.admit(greedy));
    }
    let kept: Vec<_> = admitted.iter().filter(|a| !a.cut.is_cancelled()).map(|a| a.number).collect();
    assert_eq!(kept, (33..=51).collect::<Vec<_>>(), "with a place, or one of the {MAX_WITHOUT_PLACE} without");
    assert!(other.activity.begin().is_some());
    assert_eq!(port.count(), 4);
    let busy: Vec<_> = admitted.iter().filter_map(|a| a.activity.begin()).collect();
    assert_eq!(busy.len(), 3, "the newest three have the places");
    assert!(!port.admit(greedy).activity.had_place(), "all have a call");
    assert!(port.admit(None).activity.had_place());
}

/// Covers S16.
#[tokio::test(start_paused = true)]
async fn connections_that_come_and_go_leave_nothing_behind() {
    let mut port = connections(10, None);
    for _ in 0..10_000 {
        let admitted = port.admit(None);
        port.ended(admitted.number);
    }
    assert!(port.queue.is_empty() && port.open.is_empty(), "{}", port.queue.len());
}

/// Covers S16.
#[tokio::test]
async fn places_that_change_hands_again_and_again_leave_nothing_behind() {
    let mut port = connections(10, Some(3));
    let client = Some([10, 0, 0, 1].into());
    let kept: Vec<_> = (0..3).map(|_| port.admit(client)).collect();
    for _ in 0..10_000 {
        for connection in &kept {
            connection.activity.touch();
        }
        let another = port.admit(client);
        assert!(another.activity.had_place());
        port.ended(another.number);
        assert!(port.queue.len() == port.open.len() && port.open.len() == 3, "{}", port.queue.len());
    }
}

/// A port with one place. One connection has it and has had no call for long. So many others are without a place, and
/// have called just now.
async fn idle_and_callers(callers: usize) -> (OpenConnections, Admitted, Vec<Admitted>) {
    let mut port = connections(1, None);
    let idle = port.admit(None);
    let call = idle.activity.begin();
    let callers: Vec<_> = (0..callers).map(|_| port.admit(None)).collect();
    assert!(callers.iter().all(|caller| !caller.activity.had_place()));
    drop(call);
    tokio::time::advance(2 * BETWEEN_CALLS).await;
    assert!(callers.iter().all(|caller| caller.activity.begin().is_none()));
    (port, idle, callers)
}

/// Covers S16.
#[tokio::test(start_paused = true)]
async fn a_connection_that_gets_a_place_makes_no_other_caller_end() {
    let (mut port, idle, callers) = idle_and_callers(MAX_WITHOUT_PLACE).await;
    port.give_places();
    let cut: Vec<_> = callers.iter().filter(|caller| caller.cut.is_cancelled()).map(|caller| caller.number).collect();
    assert!(cut.is_empty(), "{cut:?}");
    assert_eq!(callers.iter().filter(|caller| caller.activity.had_place()).count(), 1);
    assert!(port.count() == 1 && !idle.cut.is_cancelled());
    // The next one is one too many. The connection that has been quiet for the longest time is cut.
    tokio::time::advance(SEARCH_PAUSE).await;
    let new = port.admit(None);
    assert!(!new.activity.had_place() && idle.cut.is_cancelled());
    assert!(callers.iter().chain([&new]).all(|caller| !caller.cut.is_cancelled()));
}

/// Covers S16.
#[tokio::test(start_paused = true)]
async fn a_connection_that_loses_its_place_is_one_of_those_of_which_the_quietest_is_cut() {
    let (mut port, idle, callers) = idle_and_callers(MAX_WITHOUT_PLACE).await;
    let new = port.admit(None);
    assert!(new.activity.had_place() && idle.cut.is_cancelled());
    assert!(callers.iter().chain([&new]).all(|caller| !caller.cut.is_cancelled()));
}

/// Covers S16.
#[tokio::test(start_paused = true)]
async fn no_connection_loses_its_place_for_one_that_has_left() {
    let (mut port, idle, callers) = idle_and_callers(1).await;
    tokio::time::advance(BETWEEN_CALLS).await;
    assert!(callers[0].activity.leave(BETWEEN_CALLS));
    // A call that was on its way.
    assert!(callers[0].activity.begin().is_none());
    port.give_places();
    assert!(idle.activity.begin().is_some(), "it keeps its place");
}

/// Covers S16.
#[tokio::test(start_paused = true)]
async fn no_connection_loses_its_place_for_one_that_is_closed() {
    let (mut port, idle, callers) = idle_and_callers(1).await;
    callers[0].activity.close();
    port.give_places();
    let call = idle.activity.begin();
    assert!(call.is_some(), "it keeps its place");
    drop(call);
    idle.activity.close();
    assert!(idle.activity.begin().is_none(), "no call begins on a connection that is closed");
}
