//! What was measured, for people: each contestant's times and their ratios to its peers in the same run.

use serde_json::Value;
use std::collections::BTreeMap;

struct Series {
    fault: String,
    name: String,
    /// Sorted milliseconds.
    times: Vec<f64>,
}

impl Series {
    fn at(&self, part: f64) -> f64 {
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let index = ((self.times.len() as f64 * part).ceil() as usize).clamp(1, self.times.len()) - 1;
        self.times[index]
    }
}

/// Prints the driver's lines as a table.
pub fn print(lines: &str) {
    let series: Vec<Series> = lines.lines().map(read).collect();
    println!("{:8} {:18} {:>5} {:>9} {:>9} {:>9} {:>9}  (ms)", "fault", "who", "n", "min", "median", "p99", "max");
    for Series { fault, name, times } in &series {
        let of = Series { fault: fault.clone(), name: name.clone(), times: times.clone() };
        let (min, median, p99, max) = (of.at(0.0), of.at(0.5), of.at(0.99), of.at(1.0));
        println!("{fault:8} {name:18} {:5} {min:9.1} {median:9.1} {p99:9.1} {max:9.1}", times.len());
    }
    let medians: BTreeMap<(&str, &str), f64> =
        series.iter().map(|series| ((series.fault.as_str(), series.name.as_str()), series.at(0.5))).collect();
    for (ours, peer) in [
        (("kill -9", "zeta-bft"), ("kill -9", "floor")),
        (("kill -9", "zeta-bft"), ("kill -9", "restart-0")),
        (("kill -9", "zeta-bft"), ("kill -9", "restart-100ms")),
        (("kill -9", "zeta-bft wrapper"), ("kill -9", "floor")),
        (("kill -9", "zeta-bft wrapper"), ("kill -9", "restart-0")),
        (("SIGSTOP", "zeta-bft wrapper"), ("SIGSTOP", "watchdog-1s")),
    ] {
        if let (Some(own), Some(other)) = (medians.get(&ours), medians.get(&peer)) {
            println!("{}: median of {} is {:.2} x that of {}", ours.0, ours.1, own / other, peer.1);
        }
    }
    let ours = series.iter().find(|series| series.fault == "kill -9" && series.name == "zeta-bft");
    if let (Some(ours), Some(peer)) = (ours, medians.get(&("kill -9", "restart-0"))) {
        println!("kill -9: p99 of zeta-bft is {:.2} x the median of restart-0", ours.at(0.99) / peer);
    }
}

fn read(line: &str) -> Series {
    let told: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
    let micros = told["micros"].as_array().cloned().unwrap_or_default();
    let mut times: Vec<f64> = micros.iter().filter_map(Value::as_f64).map(|micros| micros / 1000.0).collect();
    times.sort_by(f64::total_cmp);
    Series { fault: text("fault"), name: text("name"), times }
}
