//! No fault: the control that the other rows are compared with.

use async_trait::async_trait;

use crate::fault::{Fault, Stage};

/// Covers R38.
pub struct Control;

#[async_trait]
impl Fault for Control {
    fn id(&self) -> &'static str {
        "none"
    }

    fn title(&self) -> &'static str {
        "no fault"
    }

    fn expected(&self) -> &'static str {
        "every call is answered OK"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        stage.hold().await;
        let history = stage.recorder.so_far();
        if history.refused.is_empty() {
            Ok(format!("{} writes and {} reads, none refused", history.writes.len(), history.loads.len()))
        } else {
            Err(format!("refused: {:?}", history.refused))
        }
    }
}
