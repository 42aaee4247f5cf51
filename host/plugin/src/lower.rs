//! What both kinds of plug-in are told of the caller.

use witgate_core::UserInfo;

use crate::bindings::types;

pub(crate) fn lower_user(user: &UserInfo) -> types::UserInfo {
    types::UserInfo {
        name: user.name.clone(),
        uid: user.uid.clone(),
        groups: user.groups.clone(),
        extra: user.extra.iter().map(|(key, values)| (key.clone(), values.clone())).collect(),
    }
}
