//! What `ip_allow` and `ip_deny` have in common.

use http::StatusCode;
use portcullis_core::{Answer, Error, Exchange, Flow, Kind, Middleware, middleware::Problem};

use crate::{
    addresses::Addresses,
    client::{ClientAddress, ClientSettings},
    settings::Strings,
};

/// A list of addresses that decides who may pass.
pub struct IpList {
    by: &'static str,
    /// Do the listed ones pass, or the others?
    listed_pass: bool,
    addresses: Addresses,
    client: ClientAddress,
    status: StatusCode,
}

impl IpList {
    /// Compiles the settings.
    pub fn compile(
        by: &'static str,
        listed_pass: bool,
        ranges: &Strings,
        client: &ClientSettings,
        status: u16,
    ) -> Result<IpList, Problem> {
        if ranges.0.is_empty() {
            return Err(Problem::at("ranges", "there is none").help(r#"such as `ranges = ["10.0.0.0/8"]`"#));
        }
        let refusal =
            StatusCode::from_u16(status).ok().filter(|s| s.is_client_error() || s.is_server_error());
        let Some(status) = refusal else {
            return Err(
                Problem::at("status", format!("{status} is not the status of an error")).help("400 to 599")
            );
        };
        let addresses = Addresses::compile("ranges", ranges)?;
        let client = ClientAddress::compile("client", client)?;
        Ok(IpList { by, listed_pass, addresses, client, status })
    }
}

impl Middleware for IpList {
    fn on_request<'a>(&'a self, x: &'a mut Exchange) -> Result<Flow<'a>, Error> {
        // Without an address to judge by, nobody passes: neither list can vouch for the client.
        let listed = self.client.of(x).map(|address| self.addresses.contains(address));
        if listed == Some(self.listed_pass) {
            return Ok(Flow::Next);
        }
        if self.status == StatusCode::FORBIDDEN {
            return Err(Error::because(Kind::Denied, self.by));
        }
        Ok(Flow::Answer(Answer::new(self.status, self.by)))
    }
}

/// The default status of a refusal.
pub fn forbidden() -> u16 {
    403
}

#[cfg(test)]
mod tests {
    use crate::testing::{answered, build, problem, request, trusted};
    use portcullis_core::Kind;
    use serde_json::{Value, json};

    fn refused(kind: &str, settings: Value, client: &str) -> bool {
        let list = build(kind, settings);
        let mut x = request("/");
        x.client = client.parse().unwrap();
        match list.on_request(&mut x) {
            Ok(_) => false,
            Err(error) => {
                assert_eq!(error.kind, Kind::Denied);
                true
            }
        }
    }

    #[test]
    fn one_list_lets_in_and_the_other_keeps_out() {
        let ranges = json!({"ranges": ["10.0.0.0/8", "2001:db8::1"]});
        for (client, listed) in
            [("10.1.2.3", true), ("::ffff:10.1.2.3", true), ("2001:db8::1", true), ("192.0.2.1", false)]
        {
            assert_eq!(refused("ip_allow", ranges.clone(), client), !listed, "{client}");
            assert_eq!(refused("ip_deny", ranges.clone(), client), listed, "{client}");
        }
    }

    #[test]
    fn without_an_address_nobody_passes() {
        for kind in ["ip_allow", "ip_deny"] {
            let list = build(kind, json!({"ranges": "0.0.0.0/0", "client": {"depth": 2}}));
            let mut x = request("/");
            trusted(&mut x);
            x.request.fields.append("x-forwarded-for", "192.0.2.1");
            assert_eq!(list.on_request(&mut x).err().map(|error| error.kind), Some(Kind::Denied), "{kind}");
        }
        let list = build("ip_allow", json!({"ranges": "192.0.2.1", "client": {"depth": 1}}));
        let mut x = request("/");
        x.request.fields.append("x-forwarded-for", "192.0.2.1");
        assert!(list.on_request(&mut x).is_err(), "the peer is not trusted: its word counts for nothing");
        trusted(&mut x);
        assert!(list.on_request(&mut x).is_ok());
    }

    #[test]
    fn another_status() {
        let list = build("ip_deny", json!({"ranges": "127.0.0.0/8", "status": 404}));
        assert_eq!(answered(list.on_request(&mut request("/")).unwrap()).status, 404);
    }

    #[test]
    fn settings_are_judged() {
        assert_eq!(problem("ip_allow", json!({"ranges": []})).path, "ranges");
        assert_eq!(problem("ip_allow", json!({"ranges": ["::/0", "10.0.0.0/40"]})).path, "ranges[1]");
        assert_eq!(problem("ip_deny", json!({"ranges": "::/0", "status": 200})).path, "status");
        assert_eq!(
            problem("ip_deny", json!({"ranges": "::/0", "client": {"depth": 0}})).path,
            "client.depth"
        );
    }
}
