//! The reloads' families: how they ended. Read from what the reload tells everybody, so that it need not know of metrics.

use std::sync::Arc;

use tokio::sync::watch;
use witgate_core::Counter;

use super::gate::counter;
use super::{Family, Sample, Value};
use crate::plugins::status::{LastReload, ReloadResult, ReloadStatus};

/// What the reloads since the start came to.
#[derive(Default)]
pub(crate) struct ReloadMeter {
    published: Counter,
    unchanged: Counter,
    refused: Counter,
}

impl ReloadMeter {
    /// Counts each reload that `status` tells, the one that it holds now included; never ends but with its sender.
    pub(crate) async fn follow(self: Arc<Self>, mut status: watch::Receiver<Arc<ReloadStatus>>) {
        let mut last: Option<LastReload> = None;
        loop {
            let told = status.borrow_and_update().last_reload.clone();
            if told != last
                && let Some(reload) = &told
            {
                self.count(reload.result);
            }
            last = told;
            if status.changed().await.is_err() {
                return;
            }
        }
    }

    fn count(&self, result: ReloadResult) {
        match result {
            ReloadResult::Published => self.published.increment(),
            ReloadResult::Unchanged => self.unchanged.increment(),
            ReloadResult::Refused => self.refused.increment(),
        }
    }

    pub(super) fn families(&self) -> [Family; 1] {
        let results = [("published", &self.published), ("unchanged", &self.unchanged), ("refused", &self.refused)];
        let samples =
            results.map(|(result, count)| Sample::new([("result", result.into())], Value::Count(count.read())));
        [counter(
            "witgate_reloads",
            "Reloads of the plug-in folder, the start included, by how they ended.",
            samples.into(),
        )]
    }
}
