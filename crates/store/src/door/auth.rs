//! Who asks, and the Auth service.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use etcd_wire::authpb;
use etcd_wire::etcdserverpb::{self as pb, auth_server};
use http::{Extensions, HeaderMap};
use mvcc::auth::{AuthOp, Caller, Permission, PermissionKind, ROOT_ROLE, Role};
use store_api::{AuthError, Error};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::{Door, Peer, error};
use crate::auth::Acting;

/// Names under which a token comes; the second is that of HTTP.
const TOKEN_NAMES: [&str; 2] = ["token", "authorization"];
/// Present in what came through the JSON gateway. Whoever holds the certificate of such a connection is not the caller.
pub(super) const GATEWAY_MARK: &str = "grpcgateway-accept";

fn refused(error: impl Into<Error>) -> Status {
    error::status(&error.into())
}

impl Door {
    /// The store as whoever asked sees it.
    ///
    /// # Errors
    /// For a token that is nobody's.
    pub(crate) async fn acting<T>(&self, request: &Request<T>) -> Result<Acting, Status> {
        self.acting_as(request.metadata(), request.extensions()).await
    }

    /// Refuses whoever may not administer the cluster.
    ///
    /// # Errors
    /// As authentication says.
    pub(crate) async fn require_admin<T>(&self, request: &Request<T>) -> Result<(), Status> {
        self.acting(request).await?.permit_admin().map_err(refused)
    }

    /// Refuses a caller without a name, while authentication is on.
    pub(crate) async fn require_user<T>(&self, request: &Request<T>) -> Result<(), Status> {
        self.acting(request).await?.require_user().map_err(refused)
    }

    /// [`Door::acting`] for a stream that has taken its request apart.
    pub(crate) async fn acting_as(
        &self,
        metadata: &MetadataMap,
        extensions: &Extensions,
    ) -> Result<Acting, Status> {
        self.acting_for(metadata.as_ref(), extensions.get::<Peer>()).await
    }

    /// The store as who sends these headers over the connection of `peer` sees it.
    pub(super) async fn acting_for(
        &self,
        headers: &HeaderMap,
        peer: Option<&Peer>,
    ) -> Result<Acting, Status> {
        Ok(self.store.acting(self.caller(headers, peer).await?))
    }

    async fn caller(&self, headers: &HeaderMap, peer: Option<&Peer>) -> Result<Caller, Status> {
        let status = self.store.auth_status();
        if !status.enabled {
            return Ok(Caller::default());
        }
        let token = TOKEN_NAMES.iter().find_map(|name| headers.get(*name));
        if let Some(token) = token {
            let token = token.to_str().map_err(|_| refused(AuthError::InvalidToken))?;
            let token = token.strip_prefix("Bearer ").unwrap_or(token);
            return self.store.caller_of_token(token).await.map_err(refused);
        }
        let peer = peer.and_then(|peer| peer.common_name.clone());
        let peer = peer.filter(|_| !headers.contains_key(GATEWAY_MARK));
        Ok(peer.map_or_else(Caller::default, |name| Caller {
            user: name.as_ref().to_owned(),
            auth_revision: status.revision,
        }))
    }
}

/// The service.
pub(crate) struct Auth(pub Arc<Door>);

type Outcome<T> = Result<Response<T>, Status>;

impl Auth {
    async fn change<T>(
        &self,
        request: &Request<T>,
        op: AuthOp,
    ) -> Result<Option<pb::ResponseHeader>, Status> {
        self.0.acting(request).await?.change_auth(op).await.map_err(refused)?;
        Ok(Some(self.0.header(None)))
    }

    fn header(&self) -> Option<pb::ResponseHeader> {
        Some(self.0.header(None))
    }
}

/// A change that answers with a header only.
macro_rules! answer {
    ($kind:ident, $header:expr) => {{
        let header = $header;
        Ok(Response::new(pb::$kind { header }))
    }};
}

#[tonic::async_trait]
impl auth_server::Auth for Auth {
    async fn auth_enable(&self, request: Request<pb::AuthEnableRequest>) -> Outcome<pb::AuthEnableResponse> {
        answer!(AuthEnableResponse, self.change(&request, AuthOp::Enable).await?)
    }

    async fn auth_disable(
        &self,
        request: Request<pb::AuthDisableRequest>,
    ) -> Outcome<pb::AuthDisableResponse> {
        answer!(AuthDisableResponse, self.change(&request, AuthOp::Disable).await?)
    }

    async fn auth_status(&self, request: Request<pb::AuthStatusRequest>) -> Outcome<pb::AuthStatusResponse> {
        let status = self.0.acting(&request).await?.auth_status().await.map_err(refused)?;
        Ok(Response::new(pb::AuthStatusResponse {
            header: self.header(),
            enabled: status.enabled,
            auth_revision: status.revision,
        }))
    }

    async fn authenticate(
        &self,
        request: Request<pb::AuthenticateRequest>,
    ) -> Outcome<pb::AuthenticateResponse> {
        let pb::AuthenticateRequest { name, password } = request.into_inner();
        let token = self.0.store.authenticate(&name, &password).await.map_err(refused)?;
        Ok(Response::new(pb::AuthenticateResponse { header: self.header(), token }))
    }

    async fn user_add(&self, request: Request<pb::AuthUserAddRequest>) -> Outcome<pb::AuthUserAddResponse> {
        let asked = request.get_ref();
        let (name, no_password) = (asked.name.clone(), asked.options.is_some_and(|o| o.no_password));
        let password_hash = match no_password {
            true => Bytes::new(),
            false => self.0.store.hash_password(asked.password.clone()).await.map_err(refused)?,
        };
        let op = AuthOp::UserAdd { name, password_hash, no_password };
        answer!(AuthUserAddResponse, self.change(&request, op).await?)
    }

    async fn user_get(&self, request: Request<pb::AuthUserGetRequest>) -> Outcome<pb::AuthUserGetResponse> {
        let user =
            self.0.acting(&request).await?.auth_user(&request.get_ref().name).await.map_err(refused)?;
        Ok(Response::new(pb::AuthUserGetResponse { header: self.header(), roles: user.roles }))
    }

    async fn user_list(
        &self,
        request: Request<pb::AuthUserListRequest>,
    ) -> Outcome<pb::AuthUserListResponse> {
        let users = self.0.acting(&request).await?.auth_users().await.map_err(refused)?;
        let users = users.into_iter().map(|user| user.name).collect();
        Ok(Response::new(pb::AuthUserListResponse { header: self.header(), users }))
    }

    async fn user_delete(
        &self,
        request: Request<pb::AuthUserDeleteRequest>,
    ) -> Outcome<pb::AuthUserDeleteResponse> {
        let op = AuthOp::UserDelete { name: request.get_ref().name.clone() };
        answer!(AuthUserDeleteResponse, self.change(&request, op).await?)
    }

    async fn user_change_password(
        &self,
        request: Request<pb::AuthUserChangePasswordRequest>,
    ) -> Outcome<pb::AuthUserChangePasswordResponse> {
        let asked = request.get_ref();
        // Without a password etcd takes the hash that came along.
        let password_hash = match asked.password.is_empty() {
            true => STANDARD
                .decode(&asked.hashed_password)
                .map_err(|_| refused(AuthError::NoPasswordUser))?
                .into(),
            false => self.0.store.hash_password(asked.password.clone()).await.map_err(refused)?,
        };
        let op = AuthOp::UserChangePassword { name: asked.name.clone(), password_hash };
        answer!(AuthUserChangePasswordResponse, self.change(&request, op).await?)
    }

    async fn user_grant_role(
        &self,
        request: Request<pb::AuthUserGrantRoleRequest>,
    ) -> Outcome<pb::AuthUserGrantRoleResponse> {
        let pb::AuthUserGrantRoleRequest { user, role } = request.get_ref().clone();
        answer!(AuthUserGrantRoleResponse, self.change(&request, AuthOp::UserGrantRole { user, role }).await?)
    }

    async fn user_revoke_role(
        &self,
        request: Request<pb::AuthUserRevokeRoleRequest>,
    ) -> Outcome<pb::AuthUserRevokeRoleResponse> {
        let pb::AuthUserRevokeRoleRequest { name: user, role } = request.get_ref().clone();
        answer!(
            AuthUserRevokeRoleResponse,
            self.change(&request, AuthOp::UserRevokeRole { user, role }).await?
        )
    }

    async fn role_add(&self, request: Request<pb::AuthRoleAddRequest>) -> Outcome<pb::AuthRoleAddResponse> {
        let op = AuthOp::RoleAdd { name: request.get_ref().name.clone() };
        answer!(AuthRoleAddResponse, self.change(&request, op).await?)
    }

    async fn role_get(&self, request: Request<pb::AuthRoleGetRequest>) -> Outcome<pb::AuthRoleGetResponse> {
        let role =
            self.0.acting(&request).await?.auth_role(&request.get_ref().role).await.map_err(refused)?;
        Ok(Response::new(pb::AuthRoleGetResponse { header: self.header(), perm: permissions(role) }))
    }

    async fn role_list(
        &self,
        request: Request<pb::AuthRoleListRequest>,
    ) -> Outcome<pb::AuthRoleListResponse> {
        let roles = self.0.acting(&request).await?.auth_roles().await.map_err(refused)?;
        let roles = roles.into_iter().map(|role| role.name).collect();
        Ok(Response::new(pb::AuthRoleListResponse { header: self.header(), roles }))
    }

    async fn role_delete(
        &self,
        request: Request<pb::AuthRoleDeleteRequest>,
    ) -> Outcome<pb::AuthRoleDeleteResponse> {
        let op = AuthOp::RoleDelete { name: request.get_ref().role.clone() };
        answer!(AuthRoleDeleteResponse, self.change(&request, op).await?)
    }

    async fn role_grant_permission(
        &self,
        request: Request<pb::AuthRoleGrantPermissionRequest>,
    ) -> Outcome<pb::AuthRoleGrantPermissionResponse> {
        let pb::AuthRoleGrantPermissionRequest { name: role, perm } = request.get_ref().clone();
        let Some(perm) = perm else {
            self.0.acting(&request).await?.permit_admin().map_err(refused)?;
            return Err(refused(AuthError::PermissionNotGiven));
        };
        let kind = match perm.perm_type() {
            authpb::permission::Type::Read => PermissionKind::Read,
            authpb::permission::Type::Write => PermissionKind::Write,
            authpb::permission::Type::Readwrite => PermissionKind::ReadWrite,
        };
        let permission = Permission { kind, key: perm.key, range_end: perm.range_end };
        let op = AuthOp::RoleGrantPermission { role, permission };
        answer!(AuthRoleGrantPermissionResponse, self.change(&request, op).await?)
    }

    async fn role_revoke_permission(
        &self,
        request: Request<pb::AuthRoleRevokePermissionRequest>,
    ) -> Outcome<pb::AuthRoleRevokePermissionResponse> {
        let pb::AuthRoleRevokePermissionRequest { role, key, range_end } = request.get_ref().clone();
        let op = AuthOp::RoleRevokePermission { role, key, range_end };
        answer!(AuthRoleRevokePermissionResponse, self.change(&request, op).await?)
    }
}

/// What is shown of a role. The root's is everything, whatever was granted to it.
fn permissions(role: Role) -> Vec<authpb::Permission> {
    let wire = |kind: authpb::permission::Type, key, range_end| authpb::Permission {
        perm_type: kind.into(),
        key,
        range_end,
    };
    if role.name == ROOT_ROLE {
        return vec![wire(authpb::permission::Type::Readwrite, Bytes::new(), Bytes::from_static(&[0]))];
    }
    let shown = role.permissions.into_iter().map(|permission| {
        let kind = match permission.kind {
            PermissionKind::Read => authpb::permission::Type::Read,
            PermissionKind::Write => authpb::permission::Type::Write,
            PermissionKind::ReadWrite => authpb::permission::Type::Readwrite,
        };
        wire(kind, permission.key, permission.range_end)
    });
    shown.collect()
}
