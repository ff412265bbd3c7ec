//! The lines on the socket where `zeta-bft up` plays PID 1.

use super::Reader;
use std::fmt::Debug;
use zeta_bft::backend::process::protocol::{Answer, LINE_MAX, LineError, Request, UnitReport, read_line, write_line};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(future)
}

/// Everything that a connection brings.
fn all<T>(mut bytes: &[u8]) -> Vec<T>
where
    T: for<'de> serde::Deserialize<'de> + serde::Serialize + PartialEq + Debug,
{
    block_on(async {
        let mut found = Vec::new();
        loop {
            match read_line::<T, _>(&mut bytes).await {
                Ok(Some(line)) => {
                    let mut written = Vec::new();
                    write_line(&mut written, &line).await.expect("into memory");
                    let again = read_line::<T, _>(&mut written.as_slice()).await;
                    assert_eq!(again.ok().flatten().as_ref(), Some(&line), "what was read is read again");
                    found.push(line);
                }
                Ok(None) => return found,
                Err(LineError::TooLong) => {
                    assert!(bytes.len() + LINE_MAX > 0);
                    return found;
                }
                Err(LineError::Json(_)) => {}
                Err(error) => panic!("{error} out of memory"),
            }
        }
    })
}

/// The first byte says which end reads.
pub(crate) fn pid1_line(data: &[u8]) {
    let mut data = Reader(data);
    if data.byte() == 0 {
        for request in all::<Request>(data.0) {
            if let Request::Act(order) = request {
                let _ = (order.incarnation(), order.class());
            }
        }
        return;
    }
    for answer in all::<Answer>(data.0) {
        match answer {
            Answer::Units(reports) => reports.iter().for_each(unit),
            Answer::Unit(report) => unit(&report),
            Answer::Owner(Some(owner)) => drop(owner.read()),
            Answer::Owner(None) | Answer::Stopping | Answer::Done { .. } | Answer::Refused { .. } => {}
        }
    }
}

fn unit(report: &UnitReport) {
    let Ok((subject, state)) = report.read() else { return };
    let again = UnitReport::new(&subject, &state);
    assert_eq!(again.read().ok(), Some((subject, state)));
}
