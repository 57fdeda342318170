//! Users and the authentication of personal access tokens.

use chassis::{
    access,
    client_id::ResolvedClient,
    db::paging::{Paged, Window},
};
use proto::{
    paddock::directory::v1::{
        AuthenticateUserTokenRequest, AuthenticateUserTokenResponse, CreatePersonalAccessTokenRequest,
        CreatePersonalAccessTokenResponse, CreateUserRequest, CreateUserResponse, DeleteUserRequest,
        DeleteUserResponse, GetCurrentUserRequest, GetCurrentUserResponse, GetUserRequest, GetUserResponse,
        ListUsersRequest, ListUsersResponse, UpdateUserRequest, UpdateUserResponse, User,
        user_service_server::UserService,
    },
    timestamp,
};
use tonic::{Request, Response, Status};

use super::{State, access_tokens, by_user, mask::Mask};
use crate::{
    directory::{paths, text},
    entity::user::Model,
    error::{Error, FieldErrors, Result},
    store::{
        self,
        users::{self, Changes, New},
    },
};

/// The service.
pub struct Users(pub State);

#[tonic::async_trait]
impl UserService for Users {
    async fn get_current_user(
        &self,
        request: Request<GetCurrentUserRequest>,
    ) -> Result<Response<GetCurrentUserResponse>, Status> {
        let (caller, _) = by_user(request)?;
        let user = users::find(&self.0.database, caller.id).await.map_err(|error| match error {
            // Deleted since the token was authenticated.
            Error::UserNotFound => Error::UserTokenUnknown,
            error => error,
        })?;
        Ok(Response::new(GetCurrentUserResponse { user: Some(user_message(&caller, user)) }))
    }

    async fn list_users(&self, request: Request<ListUsersRequest>) -> Result<Response<ListUsersResponse>, Status> {
        let (caller, request) = by_user(request)?;
        let window = Window::new(request.page, request.per_page)?;
        let search = text::search("search", request.search.as_deref())?;
        let username = text::search("username", request.username.as_deref())?;
        let Paged { items, page } = users::list(&self.0.database, username, search, window).await?;
        let users = items.into_iter().map(|user| user_message(&caller, user)).collect();
        Ok(Response::new(ListUsersResponse { users, page: Some(page) }))
    }

    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<GetUserResponse>, Status> {
        let (caller, request) = by_user(request)?;
        let user = users::find(&self.0.database, request.id).await?;
        Ok(Response::new(GetUserResponse { user: Some(user_message(&caller, user)) }))
    }

    async fn create_user(&self, request: Request<CreateUserRequest>) -> Result<Response<CreateUserResponse>, Status> {
        let (caller, request) = by_user(request)?;
        let new = new_user(request)?;
        let tx = store::begin(&self.0.database).await?;
        let user = users::create(&tx, new, self.0.clock.now()).await?;
        tx.commit().await.map_err(Error::from)?;
        Ok(Response::new(CreateUserResponse { user: Some(user_message(&caller, user)) }))
    }

    async fn update_user(&self, request: Request<UpdateUserRequest>) -> Result<Response<UpdateUserResponse>, Status> {
        let (caller, request) = by_user(request)?;
        let user = users::update(&self.0.database, request.id, user_changes(request)?).await?;
        Ok(Response::new(UpdateUserResponse { user: Some(user_message(&caller, user)) }))
    }

    async fn delete_user(&self, request: Request<DeleteUserRequest>) -> Result<Response<DeleteUserResponse>, Status> {
        let (caller, request) = by_user(request)?;
        if request.id == caller.id {
            return Err(Error::BadRequest("you cannot delete yourself".to_owned()).into());
        }
        users::delete(&self.0.database, request.id).await?;
        Ok(Response::new(DeleteUserResponse {}))
    }

    async fn create_personal_access_token(
        &self,
        request: Request<CreatePersonalAccessTokenRequest>,
    ) -> Result<Response<CreatePersonalAccessTokenResponse>, Status> {
        let created = access_tokens::create(&self.0, request.into_inner()).await?;
        Ok(Response::new(created))
    }

    async fn authenticate_user_token(
        &self,
        request: Request<AuthenticateUserTokenRequest>,
    ) -> Result<Response<AuthenticateUserTokenResponse>, Status> {
        let client = ResolvedClient::of(&request)?;
        let authenticated = access_tokens::authenticate(&self.0, &request.into_inner().token, &client).await?;
        Ok(Response::new(authenticated))
    }
}

fn new_user(request: CreateUserRequest) -> Result<New> {
    let new = New {
        username: request.username,
        name: request.name,
        email: request.email.to_lowercase(),
        admin: request.admin.unwrap_or(false),
    };
    let mut errors = FieldErrors::default();
    paths::check_segment(&mut errors, "username", &new.username);
    text::check_required(&mut errors, "name", &new.name, text::MAX_NAME);
    check_email(&mut errors, &new.email);
    errors.check()?;
    Ok(new)
}

fn user_changes(request: UpdateUserRequest) -> Result<Changes> {
    let mask = Mask::new(request.update_mask);
    let changes = Changes {
        username: mask.value("username", request.username),
        name: mask.value("name", request.name),
        email: mask.value("email", request.email).map(|email| email.to_lowercase()),
        admin: mask.value("admin", request.admin),
    };
    let mut errors = FieldErrors::default();
    if let Some(username) = &changes.username {
        paths::check_segment(&mut errors, "username", username);
    }
    if let Some(name) = &changes.name {
        text::check_required(&mut errors, "name", name, text::MAX_NAME);
    }
    if let Some(email) = &changes.email {
        check_email(&mut errors, email);
    }
    errors.check()?;
    Ok(changes)
}

fn check_email(errors: &mut FieldErrors, email: &str) {
    text::check_required(errors, "email", email, text::MAX_NAME);
    let has_two_sides = email.split_once('@').is_some_and(|(local, domain)| {
        let clean = !email.contains(|c: char| c.is_whitespace() || c.is_control());
        !local.is_empty() && !domain.is_empty() && !domain.contains('@') && clean
    });
    // The check above reports a blank one, and one with a NUL.
    let is_reported = email.trim().is_empty() || text::has_nul(email);
    if !has_two_sides && !is_reported {
        errors.push("email", "is invalid");
    }
}

/// The e-mail address and the rank are for administrators and the user.
fn user_message(caller: &access::User, user: Model) -> User {
    let private = caller.admin || caller.id == user.id;
    User {
        id: user.id,
        username: user.username,
        name: user.name,
        state: "active".to_owned(),
        avatar_url: None,
        web_url: None,
        created_at: Some(timestamp::from_millis(user.created_at)),
        email: private.then_some(user.email),
        is_admin: private.then_some(user.admin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_two_sides() {
        for (email, valid) in [
            ("a@b", true),
            ("first.last+tag@example.com", true),
            ("root@localhost", true),
            ("", false),
            ("a", false),
            ("@b", false),
            ("a@", false),
            ("a@b@c", false),
            ("a b@c", false),
            ("a@b\n", false),
            ("a\0@b", false),
        ] {
            let mut errors = FieldErrors::default();
            check_email(&mut errors, email);
            assert_eq!(errors.check().is_ok(), valid, "{email:?}");
        }
    }
}
