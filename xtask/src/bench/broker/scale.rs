//! Many partitions: starts, memory, files; and what a crash costs.

use std::time::{Duration, Instant};

use super::*;

/// Partitions of a topic here.
const TOPIC_PARTITIONS: u32 = 500;

/// Idle partitions, after they were made and after a clean stop and start.
pub(super) fn partitions(bench: &Bench) -> Result<()> {
    println!("\n### many idle partitions\n");
    println!(
        "| partitions | system | made in s | ready after a clean stop, s | RSS MB | open files | idle CPU % |\n\
         |---|---|---|---|---|---|---|"
    );
    let cases: &[(System, u32)] = match bench.quick {
        true => &[(System::Ketch, 1000), (System::Ketch, 10_000)],
        // 10,000 do not fit Kafka's smaller heap.
        false => &[
            (System::KafkaSmall, 1000),
            (System::Ketch, 1000),
            (System::KafkaDefault, 10_000),
            (System::Ketch, 10_000),
        ],
    };
    for (system, count) in cases {
        let dir = Scratch::new(&format!("{}-partitions", system.name()))?;
        let running = Running::start(bench, *system, &dir.0, &Setup::default())?;
        let start = Instant::now();
        for topic in 0..count / TOPIC_PARTITIONS {
            bench.topic(&running, &format!("many-{topic}"), TOPIC_PARTITIONS, &[])?;
        }
        let made = start.elapsed();
        running.stop()?;
        let running = Running::start(bench, *system, &dir.0, &Setup::default())?;
        std::thread::sleep(Duration::from_secs(if bench.quick { 2 } else { 15 }));
        let idle = running.idle_percent(Duration::from_secs(if bench.quick { 3 } else { 20 }))?;
        println!(
            "| {count} | {} | {:.2} | {:.3} | {:.0} | {} | {idle:.2} |",
            system.name(),
            made.as_secs_f64(),
            running.ready.as_secs_f64(),
            running.status_mb("VmRSS:")?,
            running.open_files()?
        );
    }
    Ok(())
}

/// kill -9 under load with much data, until it answers again.
pub(super) fn crash(bench: &Bench) -> Result<()> {
    let (topics, records, systems): (u32, u64, &[System]) = match bench.quick {
        true => (2, 1_000_000, &[System::Ketch]),
        false => (2, 10_000_000, &[System::KafkaSmall, System::Ketch]),
    };
    let count = topics * TOPIC_PARTITIONS;
    println!(
        "\n### kill -9 with {:.1} GB in {count} partitions, page cache\n",
        records as f64 * 1024.0 / 1e9
    );
    println!("| system | filled in s | answers after s | RSS MB | open files |\n|---|---|---|---|---|");
    for system in systems {
        let dir = Scratch::new(&format!("{}-crash", system.name()))?;
        let running = Running::start(bench, *system, &dir.0, &Setup::default())?;
        let start = Instant::now();
        for topic in 0..topics {
            bench.topic(&running, &format!("full-{topic}"), TOPIC_PARTITIONS, &[])?;
            bench.fill(&running, &format!("full-{topic}"), records / u64::from(topics))?;
        }
        let filled = start.elapsed();
        // Dropping it is a kill -9.
        drop(running);
        let running = Running::start(bench, *system, &dir.0, &Setup::default())?;
        println!(
            "| {} | {:.1} | {:.3} | {:.0} | {} |",
            system.name(),
            filled.as_secs_f64(),
            running.ready.as_secs_f64(),
            running.status_mb("VmRSS:")?,
            running.open_files()?
        );
    }
    Ok(())
}
