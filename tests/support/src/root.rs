//! The user who may do everything.

use std::fmt;

use etcd_client::{Client, ConnectOptions, Permission, RoleRevokePermissionOptions};

/// Gives etcd users, and demands them; from [`Etcd::root`](crate::Etcd::root) or
/// [`Cluster::root`](crate::Cluster::root).
///
/// Each of its methods panics if etcd refuses.
///
/// ```no_run
/// # use switchboard_test_support::Etcd;
/// # async fn example() {
/// let etcd = Etcd::start().await;
/// let mut root = etcd.root().await;
/// root.add_user("shop", "s3cret").await;
/// root.allow("shop", "/microservices/").await;
/// root.demand_users().await;
/// # }
/// ```
pub struct Root {
    endpoint: String,
    options: ConnectOptions,
    /// Sends no token: one that has ended is refused, even where nobody has to have one.
    nobody: Client,
    /// Logged in, if that is demanded.
    client: Client,
}

const PASSWORD: &str = "the password of root";

impl Root {
    pub(crate) async fn add(mut nobody: Client, endpoint: &str, options: ConnectOptions) -> Self {
        let added = nobody.user_add("root", PASSWORD, None).await;
        added.expect("root is added");
        let granted = nobody.user_grant_role("root", "root").await;
        granted.expect("root gets its role");
        Self {
            endpoint: endpoint.to_owned(),
            // A token ends with its time, and with etcd.
            options: options
                .with_user("root", PASSWORD)
                .with_auto_token_refresh(true),
            client: nobody.clone(),
            nobody,
        }
    }

    /// Returns a client that may do everything.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Makes etcd serve nobody but its users.
    pub async fn demand_users(&mut self) {
        self.nobody.auth_enable().await.expect("users are demanded");
        let client = Client::connect([&self.endpoint], Some(self.options.clone())).await;
        self.client = client.expect("root logs in");
    }

    /// Makes etcd serve anybody again.
    pub async fn serve_anybody(&mut self) {
        self.client.auth_disable().await.expect("anybody is served");
        self.client = self.nobody.clone();
    }

    /// Adds a user who may not do anything yet, with a role of its own.
    pub async fn add_user(&mut self, user: &str, password: &str) {
        let added = self.client.user_add(user, password, None).await;
        added.expect("the user is added");
        let added = self.client.role_add(user).await;
        added.expect("its role is added");
        let granted = self.client.user_grant_role(user, user).await;
        granted.expect("the user gets its role");
    }

    /// Changes a user's password, which ends its tokens.
    pub async fn change_password(&mut self, user: &str, password: &str) {
        let changed = self.client.user_change_password(user, password).await;
        changed.expect("the password is changed");
    }

    /// Lets a user read and write all keys that start with `prefix`.
    pub async fn allow(&mut self, user: &str, prefix: &str) {
        let permission = Permission::read_write(prefix).with_prefix();
        let allowed = self.client.role_grant_permission(user, permission).await;
        allowed.expect("the user is allowed to");
    }

    /// Takes back what [`allow`](Self::allow) gave.
    pub async fn forbid(&mut self, user: &str, prefix: &str) {
        let options = Some(RoleRevokePermissionOptions::new().with_prefix());
        let forbidden = self.client.role_revoke_permission(user, prefix, options);
        forbidden.await.expect("the user is forbidden to");
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}
