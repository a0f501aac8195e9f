//! A case: its name, and what it does.

use std::{panic::AssertUnwindSafe, pin::Pin, time::Instant};

use futures_util::FutureExt;

use super::{
    report::{Row, Seen},
    stage::Stage,
};

pub struct Case {
    /// For `--only`, and the namespace of its objects.
    pub name: &'static str,
    pub title: &'static str,
    pub run: for<'a> fn(&'a Stage) -> Pin<Box<dyn Future<Output = Seen> + 'a>>,
}

impl Case {
    /// Runs it in a namespace of its own, which is removed afterwards.
    pub async fn row(&self, stage: &Stage) -> Row {
        let began = Instant::now();
        let seen = match stage.enter(self.name).await {
            Ok(()) => AssertUnwindSafe((self.run)(stage)).catch_unwind().await,
            Err(error) => Ok(Err(error)),
        };
        let mut seen = seen.unwrap_or_else(|_| Err("the case panicked, see above".to_owned()));
        let took = began.elapsed();
        if seen.is_err() {
            stage.keep(self.name).await;
        }
        if let Err(error) = stage.leave(self.name).await {
            seen = seen.and(Err(error));
        }
        Row { name: self.name, title: self.title, seen, took }
    }
}
