//! Tests of reads that need access to private parts, and so are not in the contract suite.

mod ended_early;
mod from_index;
mod limits;
mod watch_outages;
mod watches;
