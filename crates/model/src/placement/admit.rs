//! The decision.

use super::refusal::{self, Subject};
use super::{Asked, Bound, Decision, ForeignMachine, Host, Placement, Refusal};
use crate::translator::Served;
use crate::{Platform, Role, TranslatorName};

/// Where a workload goes.
///
/// # Errors
/// When nothing that the user's configuration names can run it, when its Compose project is bound to a machine that cannot,
/// or when the platforms of one build need different machines.
pub fn admit(host: &Host, asked: &Asked) -> Result<Decision, Refusal> {
    match asked.platforms.as_slice() {
        [] => unspecified(host, asked),
        [platform] => one(host, asked, &Subject::Asked(platform)),
        platforms => build(host, asked, platforms),
    }
}

/// One machine, and what runs a platform there.
type Place = (Role, Option<TranslatorName>);

/// No platform: the native one, unless the image is there and only for others. Of several foreign ones, one that can run.
fn unspecified(host: &Host, asked: &Asked) -> Result<Decision, Refusal> {
    let there = asked.image.iter().map(|(_, platform)| platform);
    if let Some(native) = there.clone().find(|platform| host.native.runs(platform)) {
        return one(host, asked, &Subject::NativeImage(native));
    }
    let decided = there.map(|platform| one(host, asked, &Subject::Image(platform)));
    let foreign = decided.reduce(|first, next| first.or_else(|refusal| next.map_err(|_| refusal)));
    foreign.unwrap_or_else(|| one(host, asked, &Subject::NoImage(&Platform::of(host.native.arch))))
}

fn one(host: &Host, asked: &Asked, subject: &Subject) -> Result<Decision, Refusal> {
    let (role, translator) = place(host, asked.project.as_ref(), subject)?;
    Ok(Decision { role, translator, why: subject.to_string() })
}

/// Every platform must be admitted, and to one machine: a build is one request.
fn build(host: &Host, asked: &Asked, platforms: &[Platform]) -> Result<Decision, Refusal> {
    let project = asked.project.as_ref();
    let placed: Vec<(&Platform, Place)> = platforms
        .iter()
        .map(|platform| Ok((platform, place(host, project, &Subject::Asked(platform))?)))
        .collect::<Result<_, Refusal>>()?;
    let why = refusal::several(platforms);
    let native = placed.iter().find(|(_, (role, _))| *role == Role::Native);
    let foreign = placed.iter().find(|(_, (role, _))| *role == Role::Foreign);
    let decision = |role, translator| Decision { role, translator, why };
    let (Some((at_home, _)), Some((abroad, _))) = (native, foreign) else {
        let role = if foreign.is_some() { Role::Foreign } else { Role::Native };
        let translator = placed.iter().find_map(|(_, (_, translator))| *translator);
        return Ok(decision(role, translator));
    };
    match &host.foreign {
        Ok(machine) if platforms.iter().all(|platform| machine.hosts(platform).is_some()) => {
            let translator = platforms.iter().find_map(|platform| machine.hosts(platform).flatten());
            Ok(decision(Role::Foreign, translator))
        }
        _ => Err(refusal::mixed_build(at_home, abroad)),
    }
}

fn place(host: &Host, project: Option<&Bound>, subject: &Subject) -> Result<Place, Refusal> {
    let native = host.native.runs(subject.platform());
    match (host.placement, project) {
        (Placement::NativeMachine, _) if native => Ok((Role::Native, None)),
        (Placement::NativeMachine, _) => Ok((Role::Native, Some(translator(host, subject)?))),
        (Placement::ForeignMachine, None | Some(Bound { role: Role::Native, .. })) if native => {
            Ok((Role::Native, None))
        }
        (Placement::ForeignMachine, Some(bound @ Bound { role: Role::Native, .. })) => {
            Err(refusal::bound_elsewhere(bound, subject))
        }
        (Placement::ForeignMachine, None | Some(_)) => abroad(host, project, subject),
    }
}

/// The foreign machine, if there is one and it runs this.
fn abroad(host: &Host, project: Option<&Bound>, subject: &Subject) -> Result<Place, Refusal> {
    let machine = host.foreign.as_ref().map_err(|why| refusal::not_offered(host, why, subject))?;
    match (machine.hosts(subject.platform()), project) {
        (Some(translator), _) => Ok((Role::Foreign, translator)),
        (None, Some(bound)) => Err(refusal::bound_elsewhere(bound, subject)),
        (None, None) => Err(refusal::not_hosted(host, machine, subject)),
    }
}

/// The first translator of the user's list that is provisioned.
fn translator(host: &Host, subject: &Subject) -> Result<TranslatorName, Refusal> {
    let cpu = subject.platform().cpu();
    let served = host.translators.iter().find(|served| cpu.arch() == Some(served.arch));
    let Some(Served { arch, translators }) = served else {
        return Err(refusal::unknown(host, subject));
    };
    let good = translators.iter().find(|(_, state)| state.is_ok());
    good.map(|(name, _)| *name).ok_or_else(|| refusal::unprovisioned(*arch, translators, subject))
}

impl ForeignMachine {
    /// What runs a platform in it: `Some(None)` its own processor, `None` nothing.
    pub(super) fn hosts(&self, platform: &Platform) -> Option<Option<TranslatorName>> {
        if self.guest.runs(platform) {
            return Some(None);
        }
        let translator = self.translator?;
        let served = translator.translator(self.guest.arch, platform.cpu().arch()?);
        served.map(|_| Some(translator))
    }
}
