"""What an answer cost, by the price table of `genai-prices`."""

from decimal import Decimal

from tertulia.domain.models import Usage


def cost_usd(
    model: str,
    usage: Usage,
    *,
    provider_id: str | None = None,
    api_url: str | None = None,
) -> Decimal | None:
    """Return the price of the tokens in US dollars; None if they or the price are unknown.

    The table is the one inside the installed package; nothing is asked over the network. Its
    first use takes about half a second (import and parsing), so call it in a thread.

    Args:
        model: As the provider calls it.
        usage: Both token counts are needed.
        provider_id: As `genai-prices` calls the provider, or
        api_url: The base URL of the service; servers of one's own have no price.
    """
    if usage.prompt_tokens is None or usage.response_tokens is None:
        return None
    # Half a second and 20 MB that a server with only local models never needs.
    import genai_prices  # noqa: PLC0415  heavy, and rarely wanted

    tokens = genai_prices.Usage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.response_tokens,
        cache_read_tokens=usage.cached_tokens or 0,
    )
    try:
        if api_url is not None:
            price = genai_prices.calc_price(tokens, model, provider_api_url=api_url)
        elif provider_id is not None:
            price = genai_prices.calc_price(tokens, model, provider_id=provider_id)
        else:
            return None
    except (LookupError, ValueError):
        return None
    return price.total_price
