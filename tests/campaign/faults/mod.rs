//! The faults, in the order of the report.

mod access;
mod calls;
mod cleaner;
mod clock;
mod control;
mod crowd;
mod down;
mod elections;
mod embedded;
mod leader;
mod network;
mod own;
mod own_watch;
mod process;
mod producer;
mod queue;
mod reader;
mod replicas;
mod skew;
mod tombstones;
mod topic;
mod vanishing;

use super::fault::Fault;

pub fn all() -> Vec<Box<dyn Fault>> {
    let mut all: Vec<Box<dyn Fault>> = vec![
        Box::new(control::Control),
        Box::new(down::Writes),
        Box::new(down::Loads),
        Box::new(leader::KilledUnderWrites),
        Box::new(leader::KilledUnderLoad),
        Box::new(leader::Paused),
    ];
    all.extend(network::all());
    all.extend([
        Box::new(replicas::Few) as Box<dyn Fault>,
        Box::new(elections::Unclean),
        Box::new(queue::Full),
        Box::new(replicas::NoCoordinator),
        Box::new(vanishing::Client),
        Box::new(crowd::Crowd),
        Box::new(cleaner::Cleaner),
        Box::new(vanishing::Answer),
    ]);
    for more in [reader::all(), topic::all(), producer::all(), access::all(), embedded::all(), clock::all()] {
        all.extend(more);
    }
    all.push(Box::new(skew::Skewed));
    all
}
