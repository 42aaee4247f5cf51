//! What operators see: the admin listener, the decision log, and where telemetry goes.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use witgate_core::Redacted;

use super::section::{Field, Section};
use super::url::{self, Query};
use super::{AdminListen, DecisionLogConfig, DecisionLogTarget, OnFullLog, TelemetryConfig, files, listener};
use crate::decision_log::mask::{Mask, MaskedAs, MaskedField};

/// Where the admin routes listen; none where a problem was reported.
pub(super) fn admin(field: &Field<'_>) -> Option<AdminListen> {
    if field.is_map() {
        let section = field.section()?;
        let listen = section.required("listen", "IP:port");
        let tls_field = section.optional("tls");
        section.refuse_rest();
        let tls = tls_field.as_ref().and_then(Field::section).and_then(|tls| listener::tls(&tls));
        let listen = listen?;
        let address = listener::address(&listen)?;
        return match tls_field {
            None => loopback(&listen, address),
            Some(field) => {
                let tls = tls?;
                if tls.client_ca_file.is_none() {
                    field.problem(
                        "`clientCaFile` is missing: the authorities of those who may ask; without them, everybody who can reach it could",
                    );
                    return None;
                }
                Some(AdminListen::MutualTls(address, tls))
            }
        };
    }
    let text = field.text()?;
    let Some(path) = text.text.strip_prefix("unix:") else { return loopback(field, listener::address(field)?) };
    // `unix:///run/x.sock` is a way to write it too.
    let path = path.strip_prefix("//").unwrap_or(path);
    let path = field.scope().folder.join(path);
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX || path.as_os_str().as_encoded_bytes().contains(&0) {
        field.problem(format_args!("the path of a socket has at most {SOCKET_PATH_BYTES_MAX} bytes"));
        return None;
    }
    if !path.parent().unwrap_or(Path::new("")).is_dir() {
        field.problem(format_args!("{} stands in a folder that does not exist", text.shown));
        return None;
    }
    Some(AdminListen::Unix(path))
}

fn loopback(field: &Field<'_>, address: SocketAddr) -> Option<AdminListen> {
    if address.ip().is_loopback() {
        return Some(AdminListen::Loopback(address));
    }
    field.problem(format_args!(
        "`{address}` can be reached by other machines, and the admin routes ask nobody who they are: listen on 127.0.0.1 or \
         [::1], on `unix:/run/witgate/admin.sock`, or with client certificates (`admin: {{ listen: …, tls: {{ certFile: …, keyFile: …, \
         clientCaFile: … }} }}`)"
    ));
    None
}

/// The decision log; none where a problem was reported.
pub(super) fn decision_log(field: &Field<'_>) -> Option<DecisionLogConfig> {
    let log = field.section()?;
    let file = log.required("file", "where decisions are written; `-` is standard output");
    let on_full = log.optional("onFull").map_or(Some(OnFullLog::Drop), |field| {
        let text = field.text()?;
        match text.text.as_str() {
            "drop" => Some(OnFullLog::Drop),
            "deny" => Some(OnFullLog::Deny),
            _ => {
                field.problem(format_args!(
                    "{} is neither `drop` (lines without room are dropped and counted) nor `deny` (no request goes on without \
                     its line)",
                    text.shown
                ));
                None
            }
        }
    });
    let lines_max = log.optional("queueLines").map_or(Some(QUEUE_LINES_DEFAULT), |field| field.count(QUEUE_LINES));
    let mask = mask(&log);
    log.refuse_rest();
    Some(DecisionLogConfig { target: target(&file?)?, on_full: on_full?, lines_max: lines_max?, mask: mask? })
}

fn target(file: &Field<'_>) -> Option<DecisionLogTarget> {
    let (path, text) = file.path()?;
    if text.text == "-" {
        return Some(DecisionLogTarget::Stdout);
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let folder_exists = folder.as_os_str().is_empty() || folder.is_dir();
    if path.is_dir() {
        file.problem(format_args!("{} is a folder; it must be a file", text.shown));
        return None;
    }
    if !folder_exists {
        file.problem(format_args!("{} stands in a folder that does not exist", text.shown));
        return None;
    }
    Some(DecisionLogTarget::File(path))
}

fn mask(log: &Section<'_>) -> Option<Mask> {
    let (key_field, field) = (log.optional("maskKey"), log.optional("mask"));
    let key = key_field.as_ref().and_then(Field::secret).map(|(key, _)| key);
    let mut whole = key.is_some() || key_field.is_none();
    let Some(field) = field else { return whole.then(Mask::default) };
    let mut rules = Vec::new();
    for (name, value) in field.section()?.all() {
        let Some(masked) = MaskedField::ALL.into_iter().find(|masked| masked.as_str() == name) else {
            let known: Vec<_> = MaskedField::ALL.iter().map(|masked| masked.as_str()).collect();
            value.problem(format_args!("no field that can be masked; these can: {}", known.join(", ")));
            whole = false;
            continue;
        };
        let text = value.text();
        match text.as_ref().map(|text| text.text.as_str()) {
            Some("hash") => rules.push((masked, MaskedAs::Hashed)),
            Some("remove") => rules.push((masked, MaskedAs::Removed)),
            Some(_) | None => whole = false,
        }
        if let Some(text) = text.filter(|text| !matches!(text.text.as_str(), "hash" | "remove")) {
            value.problem(format_args!("{} is neither `hash` nor `remove`", text.shown));
        }
    }
    if key_field.is_none() && rules.iter().any(|(_, how)| *how == MaskedAs::Hashed) {
        field.problem(
            "`hash` needs `decisionLog.maskKey`, a secret of your own (`${VAR}` or `{ $file: … }`): without one, names could be found \
             by trying",
        );
        return None;
    }
    let key = key.map_or_else(Redacted::default, |key| Redacted::new(key.into_exposed().into_bytes()));
    whole.then(|| Mask::new(rules, key))
}

/// Where traces and metrics are sent; none where a problem was reported.
pub(super) fn telemetry(field: &Field<'_>) -> Option<TelemetryConfig> {
    let section = field.section()?;
    let otlp = section.required("otlp", "an OTLP receiver: `{ endpoint: http://127.0.0.1:4318 }`");
    section.refuse_rest();
    let otlp = otlp?.section()?;
    let endpoint = otlp.required("endpoint", "the URL of an OTLP/HTTP receiver, such as http://127.0.0.1:4318");
    let headers = otlp.optional("headers");
    let ca_file = otlp.optional("caFile");
    let sample_ratio = otlp.optional("sampleRatio").map_or(Some(SAMPLE_RATIO_DEFAULT), |field| field.ratio());
    let traces = otlp.optional("traces").map_or(Some(true), |field| field.boolean());
    let metrics = otlp.optional("metrics").map_or(Some(true), |field| field.boolean());
    let interval = otlp
        .optional("metricsIntervalMs")
        .map_or(Some(METRICS_INTERVAL_DEFAULT), |field| field.milliseconds(INTERVAL_MS));
    otlp.refuse_rest();

    let mut sent = Vec::new();
    for (name, value) in headers.and_then(|field| field.section()).iter().flat_map(Section::all) {
        let name = http::HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| value.problem("is no name of an HTTP header"))
            .ok()?;
        sent.push((name, value.secret()?.0));
    }
    let certificate_authorities = match ca_file {
        Some(field) => {
            let (path, _) = listener::read(&field, files::certificates)?;
            match super::certificate_authorities(&path) {
                Ok(pem) => Some(pem),
                Err(why) => {
                    field.problem(why);
                    return None;
                }
            }
        }
        None => None,
    };
    let endpoint = endpoint?;
    let checked = match url::check(&endpoint.text()?, Query::Refused) {
        Ok(checked) => checked,
        Err(why) => {
            endpoint.problem(why);
            return None;
        }
    };
    if checked.in_clear && !sent.is_empty() {
        endpoint.note("`headers` are sent there unencrypted: `http` to another machine");
    }
    Some(TelemetryConfig {
        endpoint: checked.url.trim_end_matches('/').to_owned(),
        headers: sent,
        certificate_authorities,
        sample_ratio: sample_ratio?,
        traces: traces?,
        metrics: metrics?,
        metrics_interval: interval?,
    })
}

/// What a path of a Unix socket may have on Linux, and a little less for the name that it is made under.
const SOCKET_PATH_BYTES_MAX: usize = 90;

/// Lines that may wait to be written, or whose place is kept.
const QUEUE_LINES: std::ops::RangeInclusive<usize> = 1..=1_000_000;
const QUEUE_LINES_DEFAULT: usize = 8_192;

/// Of requests whose client says nothing of a trace, one in ten.
const SAMPLE_RATIO_DEFAULT: f64 = 0.1;

const INTERVAL_MS: std::ops::RangeInclusive<u64> = 100..=3_600_000;
const METRICS_INTERVAL_DEFAULT: Duration = Duration::from_secs(60);
