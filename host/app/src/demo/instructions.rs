//! What the demo prints once it is ready: where everything is, and five things to type.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use super::playground::{DECISIONS, POLICIES, POLICIES_TO_TRY};

/// The text; its `Display` prints it.
#[derive(Debug)]
pub(crate) struct Instructions<'a> {
    /// The demo's folder, absolute.
    pub(crate) folder: &'a Path,
    /// Where the gate listens.
    pub(crate) gate: SocketAddr,
    /// Where its admin routes listen.
    pub(crate) admin: Option<SocketAddr>,
    /// What else should be known.
    pub(crate) notes: Vec<String>,
}

impl fmt::Display for Instructions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { folder, gate, .. } = self;
        writeln!(f, "The gate is ready: every request is put to the policies in {}.", folder.join(POLICIES).display())?;
        writeln!(f)?;
        writeln!(f, "  folder    {}", folder.display())?;
        writeln!(f, "  gate      https://{gate}")?;
        if let Some(admin) = self.admin {
            writeln!(f, "  admin     http://{admin}/status")?;
        }
        writeln!(f, "  clusters  staging and production: sample API servers inside this process")?;
        writeln!(f, "  people    jane of group platform, joe of group team-a")?;
        for note in &self.notes {
            writeln!(f, "  note      {note}")?;
        }
        writeln!(
            f,
            "\nIn another terminal:\n\n  cd {} && export KUBECONFIG=\"$PWD/kubeconfig\"",
            shell_quoted(folder)
        )?;
        let steps = [
            (
                "Ask as jane, with curl. She knows no secret of the cluster; the gate adds the service account's token.",
                format!(
                    "curl --cacert gate-ca.crt -H \"Authorization: Bearer $(cat jane.token)\" https://{gate}/k8s/clusters/staging/api/v1/namespaces/default/configmaps/clock"
                ),
            ),
            ("The same gate with kubectl.", "kubectl --context staging-jane get pods -A".to_owned()),
            (
                "A watch streams through: a line a second, until Ctrl-C.",
                "kubectl --context production-jane get configmap clock --watch -o jsonpath='{.data.time}{\"\\n\"}'"
                    .to_owned(),
            ),
            (
                "Drop a policy in while everything runs: the delete is denied. (rm policies/read-only.wasm takes it back.)",
                format!(
                    "cp {POLICIES_TO_TRY}/read-only.wasm {POLICIES}/ && sleep 1\n  kubectl --context staging-jane -n team-a delete pod web-1"
                ),
            ),
            (
                "A namespace a team: joe sees his own and no other. (jane still sees all; read namespace-tenancy.yaml.)",
                format!(
                    "cp {POLICIES_TO_TRY}/namespace-tenancy.* {POLICIES}/ && rm {POLICIES}/allow-all.wasm && sleep 1\n  kubectl --context staging-joe -n team-a get pods\n  kubectl --context staging-joe -n team-b get pods"
                ),
            ),
        ];
        for (number, (what, command)) in steps.iter().enumerate() {
            writeln!(f, "\n{}. {what}\n\n  {command}", number + 1)?;
        }
        write!(f, "\nWhy each was decided: tail -f {DECISIONS}. Ctrl-C here ends the demo.")
    }
}

fn shell_quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = text.chars().all(|letter| letter.is_ascii_alphanumeric() || "/._-+".contains(letter));
    if plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    #[test]
    fn the_text_reads_well_and_can_be_pasted() {
        let instructions = Instructions {
            folder: Path::new("/home/me/it's a demo"),
            gate: "127.0.0.1:7007".parse().unwrap(),
            admin: Some("127.0.0.1:41234".parse().unwrap()),
            notes: vec!["127.0.0.1:7008 is taken, so 127.0.0.1:41234 is used; choose one with --admin".to_owned()],
        };
        assert_snapshot!(instructions);
    }
}
