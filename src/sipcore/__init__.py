"""An asyncio SIP user agent."""
