//! One request to a sample cluster, from its headers to its answer.
//!
//! The first thing asked is the bearer token: this cluster knows one, its service account's, which is what the gate must
//! bring. Nobody is authorised further here; that is the gate's job, and the demo shows it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Body;
use jiff::Timestamp;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use witgate_core::Redacted;

use super::discovery;
use super::failure::Failure;
use super::objects::{Effect, Objects, Preconditions, Query};
use super::patch::PatchKind;
use super::protobuf::{self, PROTOBUF};
use super::resources::Resource;
use super::sample_objects::log_line;
use super::selector::Selector;
use super::table::{Header, IncludeObject, TableOptions, table};
use super::target::{Parameters, Target};
use super::watch::{Bookmarks, STREAM_TIMEOUT_MAX, WatchRequest, WatchStart, follow_log, last_ticks, watch_objects};

/// The body of an answer.
pub(crate) type AnswerBody = http_body_util::combinators::BoxBody<Bytes, Infallible>;

/// One sample cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// Its objects.
    pub(crate) objects: Arc<Objects>,
    /// The one bearer token that it takes.
    pub(crate) token: Redacted<String>,
    /// Becomes true when its streams must end.
    pub(crate) stop: watch::Receiver<bool>,
}

impl Cluster {
    /// Answers one request; every refusal becomes a `Status` here.
    pub(crate) async fn answer<B>(&self, request: Request<B>) -> Response<AnswerBody>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match self.answered(request).await {
            Ok(response) => response,
            Err(failure) => json_response(failure.code(), &failure.to_json()),
        }
    }

    async fn answered<B>(&self, request: Request<B>) -> Result<Response<AnswerBody>, Failure>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let target = Target::parse(head.uri.path());
        if target != Some(Target::Health) {
            self.authenticate(&head)?;
        }
        let target = target.ok_or_else(Failure::no_such_route)?;
        let parameters = Parameters::parse(head.uri.query());
        let json = |value: Option<Value>| match (value, &head.method) {
            (Some(value), &Method::GET) => Ok(json_response(StatusCode::OK, &value)),
            (Some(_), _) => Err(Failure::method_not_allowed()),
            (None, _) => Err(Failure::no_such_route()),
        };
        match target {
            Target::Health => Ok(text_response("ok".to_owned())),
            Target::Version => json(Some(discovery::version())),
            Target::CoreVersions => json(Some(discovery::core_versions())),
            Target::Groups => json(Some(discovery::groups())),
            Target::Group(group) => json(discovery::one_group(&group)),
            Target::Resources(group) => json(discovery::resources(&group)),
            Target::OpenapiIndex => json(Some(discovery::openapi_index())),
            Target::Openapi(group) => json(discovery::openapi(&group)),
            Target::Review(_) if head.method != Method::POST => Err(Failure::method_not_allowed()),
            Target::Review(group) => {
                let review = read_object(&head, body).await?;
                Ok(json_response(StatusCode::CREATED, &reviewed(&group, review)))
            }
            Target::Log(namespace, name) if head.method == Method::GET => self.log(&namespace, &name, &parameters),
            Target::Log(..) => Err(Failure::method_not_allowed()),
            Target::Collection(resource, namespace) => {
                self.collection(resource, namespace, &head, &parameters, body).await
            }
            Target::Object(resource, namespace, name) => {
                self.object(resource, &namespace, &name, &head, &parameters, body).await
            }
        }
    }

    fn authenticate(&self, head: &http::request::Parts) -> Result<(), Failure> {
        let mut given = head.headers.get_all(AUTHORIZATION).iter();
        let token = match (given.next(), given.next()) {
            (Some(value), None) => value.as_bytes().strip_prefix(b"Bearer ").unwrap_or_default(),
            _ => return Err(Failure::unauthorized()),
        };
        let same: bool = token.ct_eq(self.token.expose().as_bytes()).into();
        if same { Ok(()) } else { Err(Failure::unauthorized()) }
    }

    async fn collection<B>(
        &self,
        resource: &'static Resource,
        namespace: Option<String>,
        head: &http::request::Parts,
        parameters: &Parameters,
        body: B,
    ) -> Result<Response<AnswerBody>, Failure>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let selector = Selector::parse(parameters.text("labelSelector"), parameters.text("fieldSelector"))?;
        let query = Query { resource, namespace, selector };
        match head.method {
            Method::GET if parameters.is_on("watch") => {
                let request = watch_request(query, head, parameters)?;
                let body = watch_objects(Arc::clone(&self.objects), request, self.stop.clone());
                Ok(Response::builder()
                    .header(CONTENT_TYPE, JSON)
                    .body(body.boxed())
                    .expect("the parts of the response are constants"))
            }
            Method::GET => {
                let (objects, at) = self.objects.list(&query);
                let metadata = json!({ "resourceVersion": at.version.to_string() });
                let list = match table_options(head, parameters)? {
                    Some(options) => table(resource, &objects, metadata, options, Timestamp::now()),
                    None => json!({
                        "kind": format!("{}List", resource.kind), "apiVersion": resource.api_version(),
                        "metadata": metadata,
                        "items": objects.iter().map(AsRef::as_ref).collect::<Vec<&Value>>(),
                    }),
                };
                Ok(json_response(StatusCode::OK, &list))
            }
            Method::POST => {
                let namespace = query.namespace.unwrap_or_default();
                let object = read_object(head, body).await?;
                let object = self.objects.create(resource, &namespace, object, effect(parameters)?)?;
                Ok(json_response(StatusCode::CREATED, &one(resource, object, head, parameters)?))
            }
            Method::DELETE => {
                let effect = effect(parameters)?;
                let (objects, at) = self.objects.list(&query);
                for object in &objects {
                    let field = |pointer| super::objects::text(object, pointer);
                    let (namespace, name) = (field("/metadata/namespace"), field("/metadata/name"));
                    // One that somebody else deleted meanwhile is gone, which is what was asked for.
                    self.objects.delete(resource, namespace, name, &Preconditions::default(), effect).ok();
                }
                Ok(json_response(
                    StatusCode::OK,
                    &json!({
                        "kind": format!("{}List", resource.kind), "apiVersion": resource.api_version(),
                        "metadata": { "resourceVersion": at.version.to_string() },
                        "items": objects.iter().map(AsRef::as_ref).collect::<Vec<&Value>>(),
                    }),
                ))
            }
            _ => Err(Failure::method_not_allowed()),
        }
    }

    async fn object<B>(
        &self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
        head: &http::request::Parts,
        parameters: &Parameters,
        body: B,
    ) -> Result<Response<AnswerBody>, Failure>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let object = match head.method {
            Method::GET => self.objects.get(resource, namespace, name)?,
            Method::PUT => {
                let object = read_object(head, body).await?;
                self.objects.update(resource, namespace, name, effect(parameters)?, |_| Ok(object))?
            }
            Method::PATCH => {
                let kind = PatchKind::parse(content_type(head))?;
                let patch = read_json(body).await?;
                let change = |object: &Value| kind.apply(object.clone(), patch);
                self.objects.update(resource, namespace, name, effect(parameters)?, change)?
            }
            Method::DELETE => {
                let preconditions = preconditions(&read_bytes(body).await?)?;
                let object = self.objects.delete(resource, namespace, name, &preconditions, effect(parameters)?)?;
                return Ok(json_response(StatusCode::OK, &deleted(resource, name, &object)));
            }
            _ => return Err(Failure::method_not_allowed()),
        };
        Ok(json_response(StatusCode::OK, &one(resource, object, head, parameters)?))
    }

    fn log(&self, namespace: &str, name: &str, parameters: &Parameters) -> Result<Response<AnswerBody>, Failure> {
        let pod = self.objects.get(Resource::named("pods"), namespace, name)?;
        let containers = pod.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten();
        let names: Vec<&str> = containers.filter_map(|container| container.get("name")?.as_str()).collect();
        let container = match (parameters.text("container"), names.as_slice()) {
            (None, [only]) => *only,
            (Some(asked), names) if names.contains(&asked) => asked,
            (Some(asked), _) => {
                return Err(Failure::bad_request(format!("container {asked} is not valid for pod {name}")));
            }
            (None, names) => {
                let names = names.join(" ");
                return Err(Failure::bad_request(format!(
                    "a container name must be specified for pod {name}, choose one of: [{names}]"
                )));
            }
        };
        let (name, container) = (name.to_owned(), container.to_owned());
        let line = move |tick| log_line(&name, &container, tick);
        let lines = parameters.number("tailLines").unwrap_or(LOG_LINES_MAX).min(LOG_LINES_MAX);
        if !parameters.is_on("follow") {
            let ticks = self.objects.progress().borrow().ticks;
            return Ok(text_response(last_ticks(ticks, lines).map(line).collect()));
        }
        let body = follow_log(Arc::clone(&self.objects), lines, line, self.stop.clone());
        Ok(Response::builder()
            .header(CONTENT_TYPE, "text/plain")
            .body(body.boxed())
            .expect("the parts of the response are constants"))
    }
}

/// What the questions about the caller are answered.
fn reviewed(group: &str, mut review: Value) -> Value {
    let status = match group {
        "authentication.k8s.io" => json!({ "userInfo": {
            "username": "system:serviceaccount:kube-system:witgate",
            "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
        } }),
        _ => json!({
            "allowed": true, "reason": "the sample API server lets its service account do everything; the gate decides",
        }),
    };
    review.as_object_mut().and_then(|review| review.insert("status".to_owned(), status));
    review
}

fn deleted(resource: &Resource, name: &str, object: &Value) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {
            "name": name, "group": resource.group, "kind": resource.plural, "uid": object.pointer("/metadata/uid"),
        },
    })
}

/// One object in the format that was asked for.
fn one(
    resource: &Resource,
    object: Arc<Value>,
    head: &http::request::Parts,
    parameters: &Parameters,
) -> Result<Value, Failure> {
    Ok(match table_options(head, parameters)? {
        None => Value::clone(&object),
        Some(options) => {
            let metadata = json!({ "resourceVersion": object.pointer("/metadata/resourceVersion") });
            table(resource, &[object], metadata, options, Timestamp::now())
        }
    })
}

fn watch_request(query: Query, head: &http::request::Parts, parameters: &Parameters) -> Result<WatchRequest, Failure> {
    let start = match parameters.text("resourceVersion") {
        _ if parameters.is_on("sendInitialEvents") => WatchStart::NowAndSayWhenComplete,
        None | Some("0") => WatchStart::Now,
        Some(version) => {
            let version = version.parse();
            WatchStart::After(version.map_err(|_| Failure::bad_request("the resourceVersion is not one of ours"))?)
        }
    };
    let bookmarks = match parameters.is_on("allowWatchBookmarks") {
        true => Bookmarks::Wanted,
        false => Bookmarks::Unwanted,
    };
    let timeout = parameters.number("timeoutSeconds").map_or(STREAM_TIMEOUT_MAX, Duration::from_secs);
    let timeout = timeout.min(STREAM_TIMEOUT_MAX);
    Ok(WatchRequest { query, start, table: table_options(head, parameters)?, bookmarks, timeout })
}

/// Whether the answer is a Table: the first format in `Accept` that is written here decides.
fn table_options(head: &http::request::Parts, parameters: &Parameters) -> Result<Option<TableOptions>, Failure> {
    let accepted = head.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
    for format in accepted.split(',') {
        let mut parts = format.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        if !matches!(media_type, JSON | "application/*" | "*/*") {
            continue;
        }
        let convert: Vec<&str> =
            parts.filter(|part| ["as=", "v=", "g="].iter().any(|key| part.starts_with(key))).collect();
        if convert.is_empty() {
            return Ok(None);
        }
        if ["as=Table", "v=v1", "g=meta.k8s.io"].iter().all(|part| convert.contains(part)) {
            let include_object = IncludeObject::parse(parameters.text("includeObject"));
            return Ok(Some(TableOptions { include_object, header: Header::Shown }));
        }
    }
    Err(Failure::not_acceptable())
}

fn effect(parameters: &Parameters) -> Result<Effect, Failure> {
    match parameters.text("dryRun") {
        None => Ok(Effect::Stored),
        Some("All") => Ok(Effect::Dry),
        Some(other) => Err(Failure::bad_request(format!("dryRun is `{other}`; it may be `All`"))),
    }
}

fn preconditions(body: &[u8]) -> Result<Preconditions, Failure> {
    if body.is_empty() {
        return Ok(Preconditions::default());
    }
    let options: Value = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    let text = |pointer| options.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    Ok(Preconditions { uid: text("/preconditions/uid"), version: text("/preconditions/resourceVersion") })
}

fn content_type(head: &http::request::Parts) -> &str {
    head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or(JSON)
}

async fn read_object<B>(head: &http::request::Parts, body: B) -> Result<Value, Failure>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match content_type(head).split(';').next().unwrap_or_default().trim() {
        JSON => read_json(body).await,
        PROTOBUF => protobuf::object(&read_bytes(body).await?),
        other => Err(Failure::unsupported_media_type(format!("`{other}` is not read here; send application/json"))),
    }
}

async fn read_json<B>(body: B) -> Result<Value, Failure>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    serde_json::from_slice(&read_bytes(body).await?).map_err(|error| unreadable(&error))
}

async fn read_bytes<B>(body: B) -> Result<Bytes, Failure>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let read = std::pin::pin!(Limited::new(body, BODY_BYTES_MAX).collect());
    match tokio::time::timeout(BODY_TIMEOUT, read).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Failure::too_large(BODY_BYTES_MAX)),
        Ok(Err(error)) => Err(Failure::bad_request(format!("the request body broke off: {error}"))),
        Err(_) => Err(Failure::body_timeout()),
    }
}

fn unreadable(error: &serde_json::Error) -> Failure {
    Failure::bad_request(format!("the request body is not JSON: {error}"))
}

fn json_response(code: StatusCode, value: &Value) -> Response<AnswerBody> {
    let body = Full::new(Bytes::from(value.to_string())).boxed();
    Response::builder()
        .status(code)
        .header(CONTENT_TYPE, JSON)
        .body(body)
        .expect("the parts of the response are constants")
}

fn text_response(text: String) -> Response<AnswerBody> {
    let body = Full::new(Bytes::from(text)).boxed();
    Response::builder().header(CONTENT_TYPE, "text/plain").body(body).expect("the parts of the response are constants")
}

const JSON: &str = "application/json";
/// Bytes of a request body.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;
/// How long a request body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Lines of a log that are kept.
const LOG_LINES_MAX: u64 = 10;
