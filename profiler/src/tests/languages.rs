//! Requests in nine languages, mixed ones, single words and very long ones; none of these sentences was trained on.

use super::*;
use types::profile::SubLabel;

fn user(text: &str) -> Value {
    json!({"model": "auto", "messages": [{"role": "user", "content": text}]})
}

/// The refinement where the labels have it as a family, else the family.
fn class(p: &WorkloadProfile) -> &'static str {
    match p.sub_label {
        Some(sub @ (SubLabel::Math | SubLabel::Creative)) => sub.as_str(),
        _ => p.task_family.value.as_str(),
    }
}

fn is(body: &Value, expected: &str) -> WorkloadProfile {
    let p = check(body);
    let text = body["messages"][0]["content"].as_str().unwrap_or_default();
    assert_eq!(class(&p), expected, "{text:.120}\n{:?}", p.task_family);
    p
}

#[test]
fn nine_languages() {
    let check = |text: &str, language: &str, expected: &str| {
        let p = is(&user(text), expected);
        assert_eq!(p.facts.language, language, "{text}");
    };
    for (language, cases) in [
        (
            "en",
            [
                ("What do you think about long walks in the rain?", "chat"),
                ("write a python function that checks whether a word is a palindrome", "coding"),
                ("a book costs 12 euros. how much do 7 books cost with a 10 percent discount?", "math"),
                ("Write a short poem about an old lighthouse.", "creative"),
                ("make a training plan for eight weeks up to my first half marathon", "planning"),
                ("extract all names and places from the text: Jana met Ole in Bremen.", "extraction"),
            ],
        ),
        (
            "de",
            [
                ("Was hältst du von langen Spaziergängen im Regen?", "chat"),
                ("Schreibe eine Python-Funktion, die prüft, ob ein Wort ein Palindrom ist.", "coding"),
                ("Ein Buch kostet 12 Euro. Wie viel kosten 7 Bücher mit 10 Prozent Rabatt?", "math"),
                ("Schreibe ein kurzes Gedicht über einen alten Leuchtturm.", "creative"),
                ("Erstelle einen Trainingsplan für acht Wochen bis zum Halbmarathon.", "planning"),
                ("Extrahiere alle Namen und Orte aus dem Text: Jana traf Ole in Bremen.", "extraction"),
            ],
        ),
        (
            "fr",
            [
                ("Pourquoi les chats dorment-ils autant ?", "chat"),
                ("Écris une fonction Python qui calcule la médiane d'une liste.", "coding"),
                ("Combien font 15 % de 360 euros au total ?", "math"),
                ("Écris un court poème sur une gare oubliée.", "creative"),
                ("Planifie un voyage de trois jours à Bruxelles pour deux personnes.", "planning"),
                ("Extrais les noms de personnes du texte : Hugo a vu Inès à Lille.", "extraction"),
            ],
        ),
        (
            "es",
            [
                ("¿Qué opinas de vivir en el campo?", "chat"),
                ("Escribe una función en Python que cuente las vocales de un texto.", "coding"),
                ("¿Cuántos kilómetros recorre un tren en 3 horas a 120 kilómetros por hora?", "math"),
                ("Escribe un poema corto sobre una guitarra vieja.", "creative"),
                ("Crea un plan de entrenamiento de seis semanas para mi primera carrera.", "planning"),
                (
                    "Extrae todas las fechas del texto: la feria es el 4 de mayo y el cierre el 9.",
                    "extraction",
                ),
            ],
        ),
        (
            "zh",
            [
                ("你觉得养狗好还是养猫好？", "chat"),
                ("用Python写一个函数，统计字符串中每个字母出现的次数。", "coding"),
                ("一支笔3元，小红买了8支，一共花了多少元？", "math"),
                ("写一首关于秋天落叶的短诗。", "creative"),
                ("请制定一个为期四周的减肥计划，按周安排。", "planning"),
                ("从以下文本中提取所有人名和地名：王刚和李敏去了杭州。", "extraction"),
            ],
        ),
        (
            "ja",
            [
                ("夏休みの自由研究について、おすすめを教えてください。", "chat"),
                ("Pythonで素数を判定する関数を書いてください。", "coding"),
                ("みかんが1個40円です。6個買うと合計いくらですか？", "math"),
                ("冬の夜をテーマに短い詩を書いてください。", "creative"),
                ("三か月でTOEICの点を上げる学習計画を立ててください。", "planning"),
                ("次の文章から人名と地名を抽出してください。佐藤さんは仙台に住んでいます。", "extraction"),
            ],
        ),
        (
            "ru",
            [
                ("Почему люди любят смотреть на огонь?", "chat"),
                ("Напиши функцию на Python, которая удаляет повторы из списка.", "coding"),
                ("Сколько рублей стоят 6 тетрадей, если одна стоит 35 рублей?", "math"),
                ("Напиши короткое стихотворение про старый маяк.", "creative"),
                ("Составь план подготовки к марафону на двенадцать недель.", "planning"),
                ("Извлеки из текста все имена и города: Вера приехала из Перми.", "extraction"),
            ],
        ),
        (
            "ar",
            [
                ("لماذا ننسى أحلامنا بسرعة؟", "chat"),
                ("اكتب دالة بايثون تحسب مجموع الأعداد الزوجية في قائمة.", "coding"),
                ("كم يبقى مع علي إذا كان لديه 50 ريالا وأنفق 18 ريالا؟", "math"),
                ("اكتب قصيدة قصيرة عن نخلة وحيدة.", "creative"),
                ("ضع خطة تدريب لمدة ستة أسابيع للمبتدئين في الجري.", "planning"),
                ("استخرج الأسماء والمدن من النص التالي: سافرت ليلى إلى تونس.", "extraction"),
            ],
        ),
        (
            "hi",
            [
                ("लोग पहाड़ों पर घूमना क्यों पसंद करते हैं?", "chat"),
                ("पायथन में एक फ़ंक्शन लिखो जो दो सूचियों को मिलाए।", "coding"),
                ("एक किताब 45 रुपये की है। 6 किताबें कुल कितने की होंगी?", "math"),
                ("पुराने पेड़ पर एक छोटी कविता लिखो।", "creative"),
                ("दो महीने में वजन कम करने की योजना बनाओ, हफ्ते के हिसाब से।", "planning"),
                ("इस पाठ से सभी नाम और शहर निकालो: मोहन पटना में रहता है।", "extraction"),
            ],
        ),
    ] {
        for (text, expected) in cases {
            check(text, language, expected);
        }
    }
}

#[test]
fn several_languages_in_one_request() {
    let p = check(&json!({"model": "auto", "messages": [{"role": "user",
        "content": "Please write me a Python function, aber bitte mit deutschen Kommentaren und ohne Bibliotheken, die eine Liste sortiert."}]}));
    assert_eq!(
        (p.task_family.value, p.facts.second_language.is_some()),
        (TaskFamily::Coding, true),
        "{:?}",
        p.facts
    );
    let p = check(&json!({"model": "auto", "messages": [{"role": "user",
        "content": "Can you help me? 请写一首关于月亮的诗，要押韵，而且要短一点，适合小朋友读。"}]}));
    assert_eq!(p.sub_label, Some(types::profile::SubLabel::Creative), "{:?}", p.task_family);
}

#[test]
fn languages_mixed_in_a_sentence() {
    for (text, expected) in [
        (
            "kannst du mir bitte explain warum my git rebase immer conflicts produziert? hier der output: error: could not apply 1a2b3c",
            "coding",
        ),
        ("Mujhe ek Python script chahiye jo CSV file se duplicate rows hata de", "coding"),
        ("Escríbeme un poema about the moon, pero en Spanglish por favor", "creative"),
        ("この関数 def add(a, b): return a - b の bug を fix して", "coding"),
        ("帮我 plan 一个 three-day trip to 成都，每天的 schedule 要详细", "planning"),
        ("Was ist der Unterschied between affect and effect, bitte kurz", "chat"),
        ("напиши sql query который считает users по странам", "coding"),
        ("احسب لي 15% of 240 dollars من فضلك", "math"),
        ("Extract alle Namen und dates aus dem Text: Jana met Ole on 3 May in Bremen.", "extraction"),
        ("mujhe Goa ke liye 4 din ka itinerary banao, budget 20000 rupees", "planning"),
        ("Trouve tous les emails in this text: write to a@b.org or c@d.net", "extraction"),
        ("por favor haz un refactor de esta función: function f(x){return x==null?0:x}", "coding"),
    ] {
        is(&user(text), expected);
    }
}

/// Of one word little can be known: where it names no task the request is chat, and no profile is very sure.
#[test]
fn one_word() {
    for (text, expected) in [
        ("hi", "chat"),
        ("Danke", "chat"),
        ("pourquoi", "chat"),
        ("hola", "chat"),
        ("你好", "chat"),
        ("はい", "chat"),
        ("نعم", "chat"),
        ("नमस्ते", "chat"),
        ("да", "chat"),
        ("limerick", "creative"),
        ("haiku", "creative"),
        ("3*17", "math"),
        ("refactor", "coding"),
        ("Rezept", "chat"),
        ("天气", "chat"),
        ("weather", "chat"),
        ("lol", "chat"),
        ("regex", "coding"),
        ("ja", "chat"),
        ("sonnet", "creative"),
    ] {
        let p = is(&user(text), expected);
        assert!(p.confidence < 0.95, "{text}: {}", p.confidence);
    }
}

#[test]
fn judging_in_nine_languages() {
    for (text, expected) in [
        (
            "Bewerte die folgende Antwort auf einer Skala von 1 bis 5 und begründe kurz.\n\nFrage: Was ist die Hauptstadt von Australien?\nAntwort: Sydney.",
            "eval",
        ),
        (
            "Évalue la réponse suivante sur une échelle de 1 à 10.\n\nQuestion : Qui a peint Guernica ?\nRéponse : Picasso.",
            "eval",
        ),
        (
            "Compara las dos respuestas y di cuál es mejor.\n\nPregunta: ¿Qué es el ADN?\nRespuesta A: Una molécula.\nRespuesta B: Un planeta.",
            "eval",
        ),
        ("请对下面的回答打分（1到5分）并说明理由。\n\n问题：光速是多少？\n回答：每秒三十万公里。", "eval"),
        ("次の回答を1から5の点数で評価してください。\n\n質問：日本の首都は？\n回答：大阪です。", "eval"),
        (
            "Оцени ответ по шкале от 1 до 5 и объясни оценку.\n\nВопрос: Кто написал «Войну и мир»?\nОтвет: Толстой.",
            "eval",
        ),
        ("قيّم الإجابة التالية من 1 إلى 5.\n\nالسؤال: ما عاصمة مصر؟\nالإجابة: القاهرة.", "eval"),
        ("नीचे दिए गए उत्तर को 1 से 5 अंक दें और कारण बताएं।\n\nप्रश्न: भारत की राजधानी क्या है?\nउत्तर: दिल्ली।", "eval"),
        (
            "Rate the answer from 1 to 5 and say why.\n\nQuestion: What is the capital of Australia?\nAnswer: Sydney.",
            "eval",
        ),
    ] {
        is(&user(text), expected);
    }
}

#[test]
fn offered_tools_speak_in_every_language() {
    let tool =
        json!({"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}});
    for text in [
        "Wie wird das Wetter morgen in Köln?",
        "Quel temps fera-t-il demain à Lyon ?",
        "¿Qué tiempo hará mañana en Sevilla?",
        "明天上海天气怎么样？",
        "明日の京都の天気は？",
        "ما حالة الطقس غدا في الرباط؟",
        "कल जयपुर में मौसम कैसा रहेगा?",
        "Какая завтра погода в Казани?",
    ] {
        let mut body = user(text);
        body["tools"] = json!([tool]);
        is(&body, "tool_use");
    }
}

/// 200 KB of material: what is to be done with it stands at one end only.
#[test]
fn two_hundred_kilobytes() {
    let fill = |text: &str| text.repeat(200 * 1024 / text.len());
    for (told, question, material) in [
        (
            "Beantworte die Frage nur anhand des Textes.",
            "Wann wurde die Brücke eröffnet?",
            "Die Brücke über den Fluss wurde nach langer Bauzeit im Herbst dem Verkehr übergeben. Viele Menschen aus der Stadt kamen zur Feier. ",
        ),
        (
            "Réponds uniquement à partir du texte.",
            "Quand le pont a-t-il été ouvert ?",
            "Le pont sur la rivière a été ouvert à la circulation après de longs travaux. Beaucoup d'habitants sont venus à la fête. ",
        ),
        (
            "Responde solo con la información del texto.",
            "¿Cuándo se abrió el puente?",
            "El puente sobre el río se abrió al tráfico después de largas obras. Muchos vecinos vinieron a la fiesta. ",
        ),
        (
            "请只根据下面的文章回答问题。",
            "这座桥是什么时候开通的？",
            "这座跨河大桥经过长时间的施工终于通车，许多市民前来参加庆祝活动。",
        ),
        (
            "Ответь на вопрос только по тексту.",
            "Когда открыли мост?",
            "Мост через реку открыли для движения после долгого строительства. Многие жители города пришли на праздник. ",
        ),
        (
            "Answer the question using only the text.",
            "When was the bridge opened?",
            "The bridge over the river was opened to traffic after long works. Many people of the town came to the celebration. ",
        ),
        (
            "次の文章だけを使って質問に答えてください。",
            "橋はいつ開通しましたか？",
            "川に架かる橋は長い工事の末に開通し、多くの市民が式典に集まった。",
        ),
        (
            "أجب عن السؤال من النص فقط.",
            "متى افتتح الجسر؟",
            "افتتح الجسر فوق النهر أمام حركة المرور بعد أعمال طويلة وحضر كثير من سكان المدينة الاحتفال. ",
        ),
        (
            "केवल नीचे दिए गए पाठ के आधार पर उत्तर दें।",
            "पुल कब खोला गया?",
            "नदी पर बना पुल लंबे काम के बाद यातायात के लिए खोल दिया गया और शहर के बहुत से लोग उत्सव में आए। ",
        ),
    ] {
        is(&user(&format!("{told}\n\n{}\n\n{question}", fill(material))), "rag");
        is(&user(&format!("{}\n\n{told} {question}", fill(material))), "rag");
    }
    for (told, expected, material) in [
        (
            "Fasse den folgenden Text in drei Sätzen zusammen.",
            "chat",
            "Die Brücke über den Fluss wurde nach langer Bauzeit im Herbst dem Verkehr übergeben. Viele Menschen aus der Stadt kamen zur Feier. ",
        ),
        (
            "Translate the following text into German.",
            "chat",
            "The bridge over the river was opened to traffic after long works. Many people of the town came to the celebration. ",
        ),
        (
            "Résume le texte suivant.",
            "chat",
            "Le pont sur la rivière a été ouvert à la circulation après de longs travaux. Beaucoup d'habitants sont venus à la fête. ",
        ),
        ("请总结下面的文章。", "chat", "这座跨河大桥经过长时间的施工终于通车，许多市民前来参加庆祝活动。"),
        (
            "Извлеки из текста все даты и имена.",
            "extraction",
            "Мост через реку открыли для движения после долгого строительства. Многие жители города пришли на праздник. ",
        ),
        (
            "Extrae todos los nombres y fechas del texto.",
            "extraction",
            "El puente sobre el río se abrió al tráfico después de largas obras. Muchos vecinos vinieron a la fiesta. ",
        ),
        (
            "次の文章から人名と地名をすべて抽出してください。",
            "extraction",
            "川に架かる橋は長い工事の末に開通し、多くの市民が式典に集まった。",
        ),
        (
            "استخرج جميع الأسماء من النص التالي.",
            "extraction",
            "افتتح الجسر فوق النهر أمام حركة المرور بعد أعمال طويلة وحضر كثير من سكان المدينة الاحتفال. ",
        ),
        (
            "नीचे दिए पाठ का सारांश लिखें।",
            "chat",
            "नदी पर बना पुल लंबे काम के बाद यातायात के लिए खोल दिया गया और शहर के बहुत से लोग उत्सव में आए। ",
        ),
        ("Find the bug in this code.", "coding", "fn add(a: i32, b: i32) -> i32 {\n    a - b\n}\n\n"),
    ] {
        let p = is(&user(&format!("{told}\n\n{}", fill(material))), expected);
        assert!(p.facts.est_input_tokens > 20_000, "{told}: {}", p.facts.est_input_tokens);
    }
}
