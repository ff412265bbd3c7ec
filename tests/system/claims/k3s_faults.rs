//! A broken k3s under a committee that acts: what each agent finds, what is done, what is not, and who is called. The API server and
//! its datastore are real; the budgets are lifted, so that what is left undone is left undone by its rule.

use crate::kube::{Kube, Who, subject};
use crate::lab::Unfit;
use crate::node::{Config, WATCH};
use crate::stage::Stage;

super::claims! {
    what_died_or_is_silent_is_started_again_once,
}

const K3S: &str = "k3s.service";

fn with(stage: &'static Stage, more: &str) -> Result<Kube, Unfit> {
    Kube::with(stage, &Config::acting().with(&subject(more)))
}

fn what_died_or_is_silent_is_started_again_once(stage: &'static Stage) -> Result<(), Unfit> {
    let kube = with(stage, "")?;
    kube.await_row("answers-readiness-unknown", "healthy");
    let well = || {
        kube.await_until("it is ready again", || kube.get(Who::Probe, "/readyz").status == 200);
        kube.await_healthy();
    };
    // A short wait of systemd's is left to systemd.
    kube.restart_after("500ms");
    let old = kube.unit(K3S);
    kube.signal(K3S, "KILL");
    kube.await_replaced(K3S, &old);
    well();
    assert_eq!((kube.starts(K3S), kube.done()), (2, vec![]));

    // A long one, as k3s ships it, is cut short.
    kube.restart_after("5s");
    let old = kube.unit(K3S);
    kube.signal(K3S, "KILL");
    kube.await_replaced(K3S, &old);
    well();
    assert_eq!((kube.starts(K3S), kube.done()), (3, vec!["CRASH restart ok".into()]));

    // It lives, and answers nobody.
    let old = kube.unit(K3S);
    kube.signal(K3S, "STOP");
    kube.await_row("api-silent", "BROKEN");
    kube.await_replaced(K3S, &old);
    well();
    kube.await_until("the repair is judged", || kube.done().len() == 2);
    assert_eq!((kube.starts(K3S), &*kube.done()[1]), (4, "BROKEN restart ok"));
    kube.holds_for(WATCH, "it is not started once more", || kube.starts(K3S) == 4);
    assert!(kube.pages().is_empty(), "{:?}", kube.pages());
    kube.verify();
    Ok(())
}
