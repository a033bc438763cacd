"""``wrap`` keeps the type of a client for mypy and pyright: checked by ``make lint``, and never run."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, assert_type

import monitoring

if TYPE_CHECKING:
    import aiocache  # type: ignore[import-untyped]
    import aiohttp
    import aiosqlite
    import anthropic
    import asyncpg  # type: ignore[import-untyped]
    import cachetools
    import cohere
    import httpx
    import httpx2
    import ollama
    import openai
    import psycopg
    import psycopg_pool
    import pymemcache  # type: ignore[import-untyped]
    import pymongo
    import pymysql
    import redis
    import requests
    import urllib3
    from google import genai
    from mistralai.client.sdk import Mistral
    from redis.asyncio import Redis as AsyncRedis
    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from monitoring.integrations.databases.sqlite3 import Connection

    def databases(
        engine: Engine,
        async_engine: AsyncEngine,
        psycopg_connection: psycopg.Connection[tuple[Any, ...]],
        async_psycopg_connection: psycopg.AsyncConnection[tuple[Any, ...]],
        pool: psycopg_pool.ConnectionPool[psycopg.Connection[tuple[Any, ...]]],
        asyncpg_connection: asyncpg.Connection,
        mysql: pymysql.connections.Connection,
        sqlite: Connection,
        aiosqlite_connection: aiosqlite.Connection,
        mongo: pymongo.MongoClient[dict[str, Any]],
    ) -> None:
        assert_type(monitoring.wrap(engine), Engine)
        assert_type(monitoring.wrap(async_engine), AsyncEngine)
        assert_type(monitoring.wrap(psycopg_connection), psycopg.Connection[tuple[Any, ...]])
        assert_type(monitoring.wrap(async_psycopg_connection), psycopg.AsyncConnection[tuple[Any, ...]])
        assert_type(monitoring.wrap(pool), psycopg_pool.ConnectionPool[psycopg.Connection[tuple[Any, ...]]])
        assert_type(monitoring.wrap(asyncpg_connection), asyncpg.Connection)
        assert_type(monitoring.wrap(mysql), pymysql.connections.Connection)
        assert_type(monitoring.wrap(sqlite), Connection)
        assert_type(monitoring.wrap(aiosqlite_connection), aiosqlite.Connection)
        assert_type(monitoring.wrap(mongo), pymongo.MongoClient[dict[str, Any]])

    def caches(
        sync: redis.Redis,
        asynchronous: AsyncRedis,
        cluster: redis.RedisCluster,
        memcached: pymemcache.Client,
        memory: aiocache.SimpleMemoryCache,
        mapping: cachetools.TTLCache[str, int],
    ) -> None:
        assert_type(monitoring.wrap(sync), redis.Redis)
        assert_type(monitoring.wrap(asynchronous), AsyncRedis)
        assert_type(monitoring.wrap(cluster), redis.RedisCluster)
        assert_type(monitoring.wrap(memcached), pymemcache.Client)
        assert_type(monitoring.wrap(memory), aiocache.SimpleMemoryCache)
        assert_type(monitoring.wrap(mapping), cachetools.TTLCache[str, int])

    @monitoring.wrap
    @lru_cache
    def double(number: int) -> int:
        return number * 2

    assert_type(double(2), int)

    def servers(
        sync: httpx.Client,
        asynchronous: httpx.AsyncClient,
        newer: httpx2.Client,
        session: requests.Session,
        client_session: aiohttp.ClientSession,
        pool_manager: urllib3.PoolManager,
    ) -> None:
        assert_type(monitoring.wrap(sync), httpx.Client)
        assert_type(monitoring.wrap(asynchronous), httpx.AsyncClient)
        assert_type(monitoring.wrap(newer), httpx2.Client)
        assert_type(monitoring.wrap(session), requests.Session)
        assert_type(monitoring.wrap(client_session), aiohttp.ClientSession)
        assert_type(monitoring.wrap(pool_manager), urllib3.PoolManager)

    def models(
        chat: openai.OpenAI,
        async_chat: openai.AsyncOpenAI,
        claude: anthropic.Anthropic,
        gemini: genai.Client,
        local: ollama.Client,
        mistral: Mistral,
        command: cohere.ClientV2,
    ) -> None:
        assert_type(monitoring.wrap(chat), openai.OpenAI)
        assert_type(monitoring.wrap(async_chat), openai.AsyncOpenAI)
        assert_type(monitoring.wrap(claude), anthropic.Anthropic)
        assert_type(monitoring.wrap(gemini), genai.Client)
        assert_type(monitoring.wrap(local), ollama.Client)
        assert_type(monitoring.wrap(mistral), Mistral)
        assert_type(monitoring.wrap(command), cohere.ClientV2)
