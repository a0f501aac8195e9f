//! Fills the embedded store.

use changelogd_client::Client;
use serde_json::json;

use super::{counts::kind, started, write::set};

const VALUE_BYTES: usize = 512 * 1024;
/// More than any volume of the cases.
const AT_MOST: u64 = 4_000;

pub async fn run(client: &Client) -> Result<(), Box<dyn std::error::Error>> {
    started(client).await?;
    // A JSON string, which no compression makes much smaller.
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..AT_MOST {
        let mut value = Vec::with_capacity(VALUE_BYTES + 2);
        value.push(b'"');
        value.extend((0..VALUE_BYTES).map(|_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            b'a' + (random >> 59) as u8 % 26
        }));
        value.push(b'"');
        if let Err(error) = set(client, "fill", &format!("e{number}"), value).await {
            println!("{}", json!({ "written": number, "refused": kind(&error) }));
            return Ok(());
        }
    }
    Err(format!("{AT_MOST} values were written, and none refused").into())
}
