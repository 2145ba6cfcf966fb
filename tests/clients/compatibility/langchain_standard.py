"""The standard tests of LangChain for chat models; the target comes in the environment."""

import os

from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class TestGateway(ChatModelIntegrationTests):
    @property
    def chat_model_class(self):
        return ChatOpenAI

    @property
    def chat_model_params(self):
        return {
            "model": os.environ["COCOON_MODEL"],
            "base_url": os.environ["COCOON_URL"],
            "api_key": "none",
            "max_retries": 0,
            "temperature": 0,
            "stream_usage": True,
            "timeout": 60,
        }

    @property
    def has_tool_choice(self):
        return True

    @property
    def supports_json_mode(self):
        return True
