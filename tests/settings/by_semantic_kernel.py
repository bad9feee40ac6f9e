"""Run by an interpreter that has Semantic Kernel: the messages of each case on standard input; null: it refuses."""

import asyncio
import json
import sys

from semantic_kernel import Kernel
from semantic_kernel.contents import ChatHistory
from semantic_kernel.functions import KernelArguments
from semantic_kernel.prompt_template import Jinja2PromptTemplate, KernelPromptTemplate, PromptTemplateConfig

LANGUAGES = {"semantic-kernel": KernelPromptTemplate, "jinja2": Jinja2PromptTemplate}


async def messages_of(case):
    language = case.get("template_format", "semantic-kernel")
    try:
        config = PromptTemplateConfig(name="case", template=case["template"], template_format=language)
        rendered = await LANGUAGES[language](prompt_template_config=config).render(
            Kernel(), KernelArguments(**case["values"])
        )
    except Exception:
        return None
    return [[message.role.value, message.content] for message in ChatHistory.from_rendered_prompt(rendered).messages]


async def main():
    json.dump([await messages_of(case) for case in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
