use changelog_core::changelog::Limits;
use clap::{Args, FromArgMatches};
use futures_util::FutureExt;

use super::*;

/// The memory is given, because its default depends on the machine.
#[test]
fn the_defaults_of_the_flags_are_those_of_the_library() {
    let command = ServeArgs::augment_args(clap::Command::new("serve"));
    let matches = command.get_matches_from(["serve", "--replay-memory=536870912"]);
    let args = ServeArgs::from_arg_matches(&matches).unwrap();
    assert_eq!(limits(&args), Limits::default());
}

/// An app on a log in memory, with free ports.
async fn app() -> App {
    let command = ServeArgs::augment_args(clap::Command::new("serve"));
    let arguments = ["serve", "--store=memory", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"];
    let matches = command.get_matches_from(arguments);
    App::start(ServeArgs::from_arg_matches(&matches).unwrap()).await.unwrap()
}

/// Covers R44.
#[tokio::test(start_paused = true)]
async fn a_port_or_task_that_ends_while_the_process_serves_ends_it_after_a_drain() {
    for port in [true, false] {
        for while_open in [true, false] {
            let app = app().await;
            let (opened, fail) = (app.opened(), CancellationToken::new());
            let failing = fail.clone();
            let run = app.run_with(std::future::pending(), move |serving| {
                let failed = async move { failing.cancelled().await };
                if port {
                    serving.ports.spawn(failed.map(|()| panic!("put in by the test")));
                } else {
                    serving.tasks.spawn(failed.map(|()| panic!("put in by the test")));
                }
            });
            if !while_open {
                fail.cancel();
            }
            let fails_later = async {
                opened.await;
                fail.cancel();
                std::future::pending::<()>().await;
            };
            let drained = tokio::select! {
                drained = run => drained.unwrap(),
                () = fails_later => unreachable!(),
            };
            let fault = drained.fault.expect("it is reported");
            assert!(fault.contains(if port { "a port" } else { "a task" }), "{fault}");
            assert!(fault.contains("put in by the test"), "{fault}");
        }
    }
}

/// Covers R44.
#[tokio::test(start_paused = true)]
async fn a_port_that_panics_while_it_closes_is_reported() {
    let app = app().await;
    let run = app.run_with(std::future::ready(()), |serving| {
        let closing = serving.closing.clone();
        serving.ports.spawn(async move {
            closing.cancelled().await;
            panic!("put in by the test");
        });
    });
    assert!(run.await.unwrap().fault.expect("it is reported").contains("put in by the test"));
}
