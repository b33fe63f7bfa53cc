//! What a visitor reads when no model speaks: limits, failures, offers. In the visitor's language as
//! far as we speak it, otherwise in English.

/// A language that we have phrases in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// English, and whatever else.
    English,
    /// German.
    German,
    /// Spanish.
    Spanish,
    /// French.
    French,
}

impl Language {
    /// Every language.
    pub const ALL: [Self; 4] = [Self::English, Self::German, Self::Spanish, Self::French];

    /// The language of a locale as browsers write it (BCP 47): `de`, `de-AT`, `de_CH`.
    pub fn of(locale: Option<&str>) -> Self {
        let language = locale
            .unwrap_or_default()
            .split(['-', '_'])
            .next()
            .unwrap_or_default();
        match language.to_ascii_lowercase().as_str() {
            "de" => Self::German,
            "es" => Self::Spanish,
            "fr" => Self::French,
            _ => Self::English,
        }
    }
}

/// What there is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phrase {
    /// The session has used up its tokens; it is closed with this.
    SessionLimit,
    /// The budget is spent; nobody answers for a while.
    CostCap,
    /// Nobody could answer.
    Failed,
    /// The model declined.
    Declined,
    /// The answer found no room.
    TooLong,
    /// The conversation leads nowhere: above the contact form.
    StallOffer,
    /// A person takes over and needs to know how to reach the visitor: above the contact form.
    HandoffForm,
    /// The person who had taken over can't be reached; the assistant answers again.
    Unreachable,
    /// Who speaks, while their name is not known.
    Team,
}

impl Phrase {
    /// Every phrase.
    pub const ALL: [Self; 9] = [
        Self::SessionLimit,
        Self::CostCap,
        Self::Failed,
        Self::Declined,
        Self::TooLong,
        Self::StallOffer,
        Self::HandoffForm,
        Self::Unreachable,
        Self::Team,
    ];

    /// The words.
    #[expect(clippy::too_many_lines, reason = "a table")]
    pub const fn text(self, language: Language) -> &'static str {
        use Language::{English, French, German, Spanish};
        match (self, language) {
            (Self::SessionLimit, English) => {
                "We have reached the limit of what I can answer in one conversation. Please leave \
                 your contact details, and a colleague will get back to you."
            }
            (Self::SessionLimit, German) => {
                "Wir haben die Grenze dessen erreicht, was ich in einem Gespräch beantworten kann. \
                 Bitte hinterlassen Sie Ihre Kontaktdaten, dann meldet sich jemand aus unserem Team."
            }
            (Self::SessionLimit, Spanish) => {
                "Hemos llegado al límite de lo que puedo responder en una conversación. Déjenos sus \
                 datos de contacto y una persona de nuestro equipo le responderá."
            }
            (Self::SessionLimit, French) => {
                "Nous avons atteint la limite de ce que je peux répondre dans une conversation. \
                 Laissez-nous vos coordonnées et une personne de notre équipe vous répondra."
            }
            (Self::CostCap, English) => {
                "I can't answer questions at the moment. Please leave your contact details, and a \
                 colleague will get back to you."
            }
            (Self::CostCap, German) => {
                "Ich kann im Moment keine Fragen beantworten. Bitte hinterlassen Sie Ihre \
                 Kontaktdaten, dann meldet sich jemand aus unserem Team."
            }
            (Self::CostCap, Spanish) => {
                "En este momento no puedo responder preguntas. Déjenos sus datos de contacto y una \
                 persona de nuestro equipo le responderá."
            }
            (Self::CostCap, French) => {
                "Je ne peux pas répondre aux questions pour le moment. Laissez-nous vos coordonnées \
                 et une personne de notre équipe vous répondra."
            }
            (Self::Failed, English) => {
                "Sorry, something went wrong on our side and this message could not be answered. \
                 Please try again in a moment."
            }
            (Self::Failed, German) => {
                "Entschuldigung, bei uns ist etwas schiefgegangen, und diese Nachricht konnte nicht \
                 beantwortet werden. Bitte versuchen Sie es gleich noch einmal."
            }
            (Self::Failed, Spanish) => {
                "Lo sentimos, algo ha fallado por nuestra parte y no hemos podido responder a este \
                 mensaje. Inténtelo de nuevo en un momento."
            }
            (Self::Failed, French) => {
                "Désolé, une erreur est survenue de notre côté et ce message est resté sans réponse. \
                 Veuillez réessayer dans un instant."
            }
            (Self::Declined, English) => {
                "I'm sorry, I can't help with that. Is there anything else you would like to know \
                 about us?"
            }
            (Self::Declined, German) => {
                "Dabei kann ich leider nicht helfen. Möchten Sie noch etwas anderes über uns wissen?"
            }
            (Self::Declined, Spanish) => {
                "Lo siento, no puedo ayudarle con eso. ¿Desea saber algo más sobre nosotros?"
            }
            (Self::Declined, French) => {
                "Désolé, je ne peux pas vous aider sur ce point. Souhaitez-vous savoir autre chose \
                 à notre sujet ?"
            }
            (Self::TooLong, English) => {
                "That is more than I can answer at once. Could you ask for one part of it?"
            }
            (Self::TooLong, German) => {
                "Das ist mehr, als ich auf einmal beantworten kann. Könnten Sie nach einem Teil \
                 davon fragen?"
            }
            (Self::TooLong, Spanish) => {
                "Es más de lo que puedo responder de una vez. ¿Podría preguntar por una parte?"
            }
            (Self::TooLong, French) => {
                "C'est plus que ce que je peux traiter en une fois. Pourriez-vous poser la question \
                 sur une partie ?"
            }
            (Self::StallOffer, English) => {
                "Would you rather talk to a person? Leave your contact details, and we will get \
                 back to you."
            }
            (Self::StallOffer, German) => {
                "Möchten Sie lieber mit einem Menschen sprechen? Hinterlassen Sie Ihre Kontaktdaten, \
                 und wir melden uns."
            }
            (Self::StallOffer, Spanish) => {
                "¿Prefiere hablar con una persona? Déjenos sus datos de contacto y le responderemos."
            }
            (Self::StallOffer, French) => {
                "Préférez-vous parler à une personne ? Laissez-nous vos coordonnées et nous vous \
                 répondrons."
            }
            (Self::HandoffForm, English) => "How can our colleague reach you?",
            (Self::HandoffForm, German) => "Wie können wir Sie erreichen?",
            (Self::HandoffForm, Spanish) => "¿Cómo podemos ponernos en contacto con usted?",
            (Self::HandoffForm, French) => "Comment pouvons-nous vous joindre ?",
            (Self::Team, English) => "Our team",
            (Self::Team, German) => "Unser Team",
            (Self::Team, Spanish) => "Nuestro equipo",
            (Self::Team, French) => "Notre équipe",
            (Self::Unreachable, English) => {
                "I'm sorry, my colleague can't be reached right now and may not have seen your last \
                 message. I am the assistant again: I'll help as far as I can."
            }
            (Self::Unreachable, German) => {
                "Es tut mir leid, die Person aus unserem Team ist gerade nicht erreichbar und hat Ihre \
                 letzte Nachricht vielleicht nicht gesehen. Hier antwortet wieder der Assistent: Ich \
                 helfe, so gut ich kann."
            }
            (Self::Unreachable, Spanish) => {
                "Lo siento, ahora no podemos localizar a la persona de nuestro equipo y quizá no haya \
                 visto su último mensaje. Vuelve a responder el asistente: le ayudaré en lo que pueda."
            }
            (Self::Unreachable, French) => {
                "Désolé, la personne de notre équipe n'est pas joignable pour le moment et n'a peut-être \
                 pas vu votre dernier message. L'assistant reprend : je vous aiderai autant que possible."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_locale_is_known_by_its_language() {
        for (locale, language) in [
            (Some("de"), Language::German),
            (Some("DE-at"), Language::German),
            (Some("es_MX"), Language::Spanish),
            (Some("fr-CA"), Language::French),
            (Some("en-GB"), Language::English),
            (Some("den"), Language::English),
            (Some(""), Language::English),
            (None, Language::English),
        ] {
            assert_eq!(Language::of(locale), language, "{locale:?}");
        }
    }

    #[test]
    fn every_phrase_is_said_differently_in_every_language() {
        let texts: HashSet<&str> = Phrase::ALL
            .iter()
            .flat_map(|phrase| Language::ALL.map(|language| phrase.text(language)))
            .collect();
        assert_eq!(texts.len(), Phrase::ALL.len() * Language::ALL.len());
        assert!(texts.iter().all(|text| !text.contains("  ")));
    }
}
