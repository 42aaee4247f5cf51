//! From a query to Cedar's words, as `witgate.cedarschema` has them.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression};
use witgate_sdk::calendar::Utc;
use witgate_sdk::selector::required_labels;
use witgate_sdk::{PolicyQuery, RequestAttributes, UserInfo};

/// A question, and the entities that it is about.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) request: Request,
    pub(crate) entities: Entities,
}

/// What `query` asks; none where it is about a permission that this policy knows nothing of.
pub(crate) fn question(query: &PolicyQuery, user: &UserInfo, known: &Entities) -> Result<Option<Question>, String> {
    let (action, resource, context) = match (query.permission.name.as_str(), &query.request) {
        ("kubernetes.proxy", Some(request)) => {
            (request.verb.as_str(), resource(request)?, context(query.now, &What::of(request))?)
        }
        ("kubernetes.clusters.read", _) => {
            ("listClusters", list_of_clusters()?, context(query.now, &What::LIST_OF_CLUSTERS)?)
        }
        _ => return Ok(None),
    };
    let principal = principal(user, known)?;
    let request =
        Request::new(principal.uid(), uid("Action", action)?, resource.uid(), context, None).map_err(shown)?;
    let of_request = [principal, resource];
    let entities = if known.is_empty() {
        Entities::from_entities(of_request, None)
    } else {
        known.clone().upsert_entities(of_request, None)
    };
    Ok(Some(Question { request, entities: entities.map_err(shown)? }))
}

/// The caller. What `entities` says of them beside their groups stays; what the gate found out counts.
fn principal(user: &UserInfo, known: &Entities) -> Result<Entity, String> {
    let uid_of_user = uid("User", &user.name)?;
    let mut parents: HashSet<EntityUid> =
        user.groups.iter().map(|group| uid("Group", group)).collect::<Result<_, _>>()?;
    let mut attributes = HashMap::new();
    if let Some(entity) = known.get(&uid_of_user) {
        let (_, known_attributes, known_parents) = entity.clone().into_inner();
        attributes = known_attributes;
        parents.extend(known_parents);
    }
    attributes.insert("name".to_owned(), text(&user.name));
    match &user.uid {
        Some(uid) => attributes.insert("uid".to_owned(), text(uid)),
        None => attributes.remove("uid"),
    };
    let tags = user
        .extra
        .iter()
        .map(|(key, values)| (key.clone(), RestrictedExpression::new_set(values.iter().map(|value| text(value)))));
    Entity::new_with_tags(uid_of_user, attributes, parents, tags).map_err(shown)
}

fn resource(request: &RequestAttributes) -> Result<Entity, String> {
    let mut parents = HashSet::from([uid("Cluster", &request.cluster)?]);
    if !request.namespace.is_empty() {
        parents.insert(uid("Namespace", &request.namespace)?);
    }
    let attributes = [
        ("cluster", &request.cluster),
        ("apiGroup", &request.api_group),
        ("apiVersion", &request.api_version),
        ("namespace", &request.namespace),
        ("resource", &request.resource),
        ("subresource", &request.subresource),
        ("name", &request.name),
        ("subpath", &request.subpath),
        ("path", &request.path),
    ];
    let attributes = attributes.into_iter().map(|(key, value)| (key.to_owned(), text(value)));
    let kind = ("resourceRequest".to_owned(), RestrictedExpression::new_bool(request.resource_request));
    Entity::new(uid("Resource", &request.path)?, attributes.chain([kind]).collect(), parents).map_err(shown)
}

fn list_of_clusters() -> Result<Entity, String> {
    let texts =
        ["cluster", "apiGroup", "apiVersion", "namespace", "resource", "subresource", "name", "subpath", "path"];
    let attributes = texts.into_iter().map(|key| (key.to_owned(), text("")));
    let kind = ("resourceRequest".to_owned(), RestrictedExpression::new_bool(false));
    Entity::new(uid("Resource", "clusters")?, attributes.chain([kind]).collect(), HashSet::new()).map_err(shown)
}

/// What a request says beside what it is about.
struct What<'a> {
    action_class: &'a str,
    method: &'a str,
    dry_run: bool,
    upgrade: bool,
    patch_type: Option<&'a str>,
    field_selector: Option<&'a str>,
    label_selector: Option<&'a str>,
}

impl<'a> What<'a> {
    const LIST_OF_CLUSTERS: Self = Self {
        action_class: "read",
        method: "GET",
        dry_run: false,
        upgrade: false,
        patch_type: None,
        field_selector: None,
        label_selector: None,
    };

    fn of(request: &'a RequestAttributes) -> Self {
        Self {
            action_class: request.action_class.as_str(),
            method: &request.method,
            dry_run: request.dry_run,
            upgrade: request.upgrade,
            patch_type: request.patch_type.as_deref(),
            field_selector: request.field_selector.as_deref(),
            label_selector: request.label_selector.as_deref(),
        }
    }
}

fn context(now: u64, what: &What<'_>) -> Result<Context, String> {
    let utc = Utc::at(now);
    let labels = required_labels(what.label_selector.unwrap_or(""));
    let labels = labels.iter().map(|(key, value)| text(&format!("{key}={value}")));
    let always = [
        ("now", RestrictedExpression::new_long(i64::try_from(now).unwrap_or(i64::MAX))),
        ("time", RestrictedExpression::new_datetime(utc.to_string())),
        ("weekday", text(&utc.weekday.to_string())),
        ("minuteOfDay", RestrictedExpression::new_long(utc.minute_of_day().into())),
        ("actionClass", text(what.action_class)),
        ("method", text(what.method)),
        ("dryRun", RestrictedExpression::new_bool(what.dry_run)),
        ("upgrade", RestrictedExpression::new_bool(what.upgrade)),
        ("labels", RestrictedExpression::new_set(labels)),
    ];
    let sometimes = [
        ("patchType", what.patch_type),
        ("fieldSelector", what.field_selector),
        ("labelSelector", what.label_selector),
    ];
    let sometimes = sometimes.into_iter().filter_map(|(key, value)| value.map(|value| (key, text(value))));
    Context::from_pairs(always.into_iter().chain(sometimes).map(|(key, value)| (key.to_owned(), value))).map_err(shown)
}

fn uid(kind: &str, id: &str) -> Result<EntityUid, String> {
    let kind: EntityTypeName = kind.parse().map_err(shown)?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn shown(error: impl std::fmt::Display) -> String {
    error.to_string()
}
